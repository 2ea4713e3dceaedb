"""A sentence that a captioner has written."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sentence:
    """A sentence about an image.

    Attributes:
        text: its words.
        log_probability: of the whole sentence.
        ended: whether it came to its end within the longest length.
    """

    text: str
    log_probability: float
    ended: bool
