"""Which images with objects to use."""

import os
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class DetectionDataConfig:
    """Which images with objects to use, and how many.

    Example:
        >>> DetectionDataConfig(("scenes:digits=2-3",), train_limit=100).data
        ('scenes:digits=2-3',)
    """

    data: tuple[str, ...] = ("scenes",)
    """Digit scenes (with options as in scenes:train=4000:digits=2-4:size=128), or folders: Pascal VOC (one or several,
    or a folder of year folders), COCO, YOLO (or its data.yaml)."""
    size: int | None = None
    """Longest side of the images in pixels; by default 96 for scenes and 320 for folders."""
    train_limit: int | None = None
    """Use at most this many training images."""
    test_limit: int | None = None
    """Use at most this many test images."""
    data_seed: int = 0
    """Seed of the scenes, of what the limits draw, and of the test part where a folder names none."""
    flip: bool | None = None
    """Whether a mirrored image keeps its classes; by default yes for folders and no for scenes."""
    memory_gb: float = 4.0
    """Decode the images of folders while training if they take more memory than this, in GB."""

    def absolute(self) -> "DetectionDataConfig":
        """Write the paths in full, so that the config means the same from every working directory."""
        data = tuple(
            os.path.abspath(path) if os.path.exists(path := os.path.expanduser(word)) and not is_scenes(word) else word
            for word in self.data
        )
        return replace(self, data=data)


def is_scenes(word: str) -> bool:
    """Whether a word means the digit scenes.

    Example:
        >>> is_scenes("scenes:size=64"), is_scenes("./scenes")
        (True, False)
    """
    return word.split(":")[0] == "scenes"
