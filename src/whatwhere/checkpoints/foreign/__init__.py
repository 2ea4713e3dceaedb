"""Networks as other code bases name their tensors, one a file. Every file here is imported before the first checkpoint is read."""
