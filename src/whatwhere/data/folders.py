"""Image folders: ``train/`` and ``val/`` or ``test/``, and in each a folder per class."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import WhatwhereError
from .dataset import Splits
from .image import SUFFIXES
from .limits import check_limits, check_positive, evenly
from .on_demand import OnDemandDataset, hold_or_check, shared_side, spread
from .preprocessing import SIZE

_HELD_OUT = ("val", "test")
_LAYOUT = "expected DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg (or DIR/test)"


@dataclass
class _Files:
    """The image files of one split, in order, and their classes."""

    folder: Path
    classes: list[str]
    paths: list[Path]
    labels: NDArray[np.int64]

    def only(self, keep: NDArray[np.int64]) -> "_Files":
        return _Files(self.folder, self.classes, [self.paths[i] for i in keep], self.labels[keep])

    def dataset(self, size: int, flip: bool) -> "FolderDataset":
        labels = torch.from_numpy(self.labels)
        return FolderDataset(self.folder, self.paths, self.classes, labels, size, flip=flip)


class FolderDataset(OnDemandDataset):
    """The images of files, decoded when they are asked for."""

    def __init__(
        self, folder: Path, paths: Sequence[Path], classes: Sequence[str], labels: Tensor, size: int, *, flip: bool
    ) -> None:
        super().__init__(folder, classes, labels, size, flip=flip)
        self.paths = list(paths)

    def source(self, index: int) -> Path:
        """Return the path of an image."""
        return self.paths[index]

    def name(self, index: int) -> str:
        """Return the path of an image."""
        return str(self.paths[index])

    def place_of(self, label: int) -> str:
        """Return the folder of a class."""
        return str(Path(self.place, self.classes[label]))


def open_folder(
    folder: str | Path,
    *,
    size: int | None = None,
    default_size: int | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    seed: int = 0,
    flip: bool = True,
    memory_gb: float = 4.0,
    progress: bool = True,
) -> Splits:
    """Open a folder of images as a training and a test dataset.

    ``folder/train`` and ``folder/val`` (or ``folder/test`` where there is no ``val``) hold a folder per class, with its
    images at any depth. Each image is read by :func:`read_image`. One that cannot be read is reported with its path,
    left out, and listed in ``.broken``.

    Args:
        folder: the folder.
        size: side of the images in pixels. None takes ``default_size``, or else the side of the images where all of a
            sample share one, or else 224.
        default_size: the side that the network prefers.
        train_limit: use at most this many training images, drawn evenly from the classes.
        test_limit: the same for the test images.
        seed: of what the limits draw.
        flip: whether a mirrored image keeps its label (that of a letter does not).
        memory_gb: decode all images now if they take at most this much memory; otherwise when they are asked for.
        progress: show progress bars.

    Returns:
        ``Splits(train, test)``.

    Raises:
        WhatwhereError: the folder, a split or the classes are missing, there is only one class, the two splits have
            different classes, or a class has no image that can be read.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for where in ("train/cat", "train/dog", "val/cat", "val/dog"):
        ...         Path(folder, where).mkdir(parents=True)
        ...         Image.new("RGB", (40, 32)).save(Path(folder, where, "one.png"))
        ...     train, test = open_folder(folder, progress=False)
        >>> train.classes, train.size, len(test)
        (('cat', 'dog'), 32, 2)
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise WhatwhereError(f"there is no folder {root}; {_LAYOUT}")
    check_positive(size=size, default_size=default_size, train_limit=train_limit, test_limit=test_limit)
    held_out = next((root / name for name in _HELD_OUT if (root / name).is_dir()), None)
    if not (root / "train").is_dir() or held_out is None:
        missing = (
            "train/" if held_out is not None else "val/ or test/" if (root / "train").is_dir() else "train/ or val/"
        )
        inside = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        raise WhatwhereError(f"{root} has no folder {missing}, it has {inside}; {_LAYOUT}")
    train, test = _files(root / "train"), _files(held_out)
    if train.classes != test.classes:
        odd = [
            f"{', '.join(repr(name) for name in only[:8])}{' and more' if len(only) > 8 else ''} only in {where}/"
            for only, where in (
                ([name for name in train.classes if name not in test.classes], "train"),
                ([name for name in test.classes if name not in train.classes], held_out.name),
            )
            if only
        ]
        raise WhatwhereError(f"{root}: train and {held_out.name} must have the same classes, but {'; '.join(odd)}")
    check_limits(len(train.classes), root, train_limit=train_limit, test_limit=test_limit)
    train = train.only(evenly(train.labels, train_limit, seed))
    test = test.only(evenly(test.labels, test_limit, seed))
    side = size or default_size or shared_side(train.paths[i] for i in spread(len(train.paths))) or SIZE
    return hold_or_check(train.dataset(side, flip), test.dataset(side, flip), memory_gb, progress=progress)


def _files(folder: Path) -> _Files:
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise WhatwhereError(f"{folder} has no classes: put the images of each class in a folder of its own; {_LAYOUT}")
    if len(classes) == 1:
        raise WhatwhereError(f"{folder} has only one class, {classes[0]!r}: there is nothing to tell apart; {_LAYOUT}")
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = sorted(
            Path(where, file)
            for where, folders, files in os.walk(folder / name, followlinks=True)
            for file in files
            if Path(file).suffix.lower() in SUFFIXES and not file.startswith(".")
        )
        if not found:
            raise WhatwhereError(
                f"class {name!r} has no images: {folder / name} holds no file named like *.jpg or *.png"
            )
        paths += found
        labels += [label] * len(found)
    return _Files(folder, classes, paths, np.array(labels, dtype=np.int64))
