"""What is compared, a module for each group of attentions, each with a list ``CASES``."""
