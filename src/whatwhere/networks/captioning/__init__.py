"""Networks that write a sentence about an image: the captioner, its attention, and how sentences are decoded."""
