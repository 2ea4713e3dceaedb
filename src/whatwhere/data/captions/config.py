"""Which images with sentences to use."""

import os
from dataclasses import dataclass, replace
from typing import Literal

from ...errors import WhatwhereError
from ..detection.config import is_scenes


@dataclass(frozen=True)
class CaptionDataConfig:
    """Which images with sentences to use, and how many.

    Example:
        >>> CaptionDataConfig("scenes:size=48", train_limit=100).data
        'scenes:size=48'
    """

    data: str = "scenes"
    """Digit scenes (with options as in scenes:train=4000:size=64), or a folder or file: COCO captions
    (annotations/captions_*.json), Karpathy's split (dataset_*.json), or captions.csv (image, caption) with train.txt
    and val.txt, dev.txt or test.txt."""
    size: int | None = None
    """Side of the square images in pixels; by default 56 for scenes, and what the network expects for folders."""
    test_part: Literal["val", "test"] = "val"
    """Which part of a data set to measure on, where it has both."""
    min_count: int | None = None
    """A word belongs to the vocabulary if it comes so often in the training sentences; by default 1 for scenes and 5
    for folders."""
    longest: int | None = None
    """Sentences with more words are not learned from, and none longer is written; by default 20 for scenes and 50 for
    folders."""
    train_limit: int | None = None
    """Use at most this many training images."""
    test_limit: int | None = None
    """Use at most this many test images."""
    data_seed: int = 0
    """Seed of the scenes, of what the limits draw, and of which combinations only the test scenes have."""
    flip: bool | None = None
    """Whether a mirrored image keeps its sentences; by default yes for folders and no for scenes."""
    memory_gb: float = 4.0
    """Decode the images of folders while training if they take more memory than this, in GB."""

    def __post_init__(self) -> None:
        for name in ("size", "min_count", "longest", "train_limit", "test_limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise WhatwhereError(f"{name}={value}: must be at least 1")
        for name in ("data_seed", "memory_gb"):
            if not getattr(self, name) >= 0:
                raise WhatwhereError(f"{name}={getattr(self, name)}: must be at least 0")
        if self.test_part not in ("val", "test"):
            raise WhatwhereError(f"test_part={self.test_part!r}: must be 'val' or 'test'")

    @property
    def scenes(self) -> bool:
        """Whether the digit scenes are meant."""
        return is_scenes(self.data)

    @property
    def most_words(self) -> int:
        """The most words of a sentence."""
        return self.longest or (20 if self.scenes else 50)

    def absolute(self) -> "CaptionDataConfig":
        """Write the path in full, so that the config means the same from every working directory."""
        path = os.path.expanduser(self.data)
        return self if self.scenes or not os.path.exists(path) else replace(self, data=os.path.abspath(path))
