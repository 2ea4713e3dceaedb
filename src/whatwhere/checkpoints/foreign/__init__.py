"""The names of other code bases for whole networks, one a file. All are imported before a checkpoint is read."""
