"""Images and their sentences as annotation files have them."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..detection.objects import Problem


@dataclass(frozen=True)
class ImageCaptions:
    """An image and the sentences that describe it, as they stand in the file.

    Attributes:
        path: of the image.
        captions: may be empty.
        source: the file that they are from.
    """

    path: Path
    captions: tuple[str, ...]
    source: Path


class CaptionParts(NamedTuple):
    """Both parts of a data set, with what is wrong in the files."""

    train: list[ImageCaptions]
    test: list[ImageCaptions]
    problems: list[Problem]
