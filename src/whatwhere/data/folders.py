"""Image folders: ``train/`` and ``val/`` or ``test/``, and in each a folder per class."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ..errors import WhatwhereError
from .broken import BrokenImages
from .dataset import Broken, ImageDataset, MemoryDataset, Splits
from .image import SUFFIXES, Unreadable, read_image, read_sides
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


class FolderDataset(ImageDataset):
    """A dataset that decodes its images when they are asked for.

    An image that cannot be read is left out of its batch, reported once, and listed in ``broken`` from then on, also
    where the workers of a ``DataLoader`` decode.
    """

    def __init__(self, paths: Sequence[Path], classes: Sequence[str], labels: Tensor, size: int, *, flip: bool) -> None:
        super().__init__(classes, size, labels, flip=flip, names=[str(path) for path in paths])
        self.paths = list(paths)
        self._unread = BrokenImages([str(path) for path in paths], self._why)

    @property
    def broken(self) -> list[Broken]:
        """The images that could not be read so far."""
        return self._unread.found()

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the images of ``indices`` and return those that can be read."""
        images, kept = [], []
        for index in indices.tolist():
            if index in self._unread:
                continue
            result = _try(self.paths[index], self.size)
            if isinstance(result, str):
                self._unread.add(index, result)
            else:
                images.append(result)
                kept.append(index)
        stacked = torch.stack(images) if images else torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
        return stacked, torch.tensor(kept, dtype=torch.int64)

    def _why(self, index: int) -> str:
        result = _try(self.paths[index], self.size)
        return result if isinstance(result, str) else ""


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
    _positive(size=size, default_size=default_size, train_limit=train_limit, test_limit=test_limit)
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
    for name, limit in (("train_limit", train_limit), ("test_limit", test_limit)):
        if limit is not None and limit < len(train.classes):
            raise WhatwhereError(
                f"{name}={limit} leaves some of the {len(train.classes)} classes of {root} without an image"
            )
    train = train.only(_evenly(train.labels, train_limit, seed))
    test = test.only(_evenly(test.labels, test_limit, seed))
    side = size or default_size or _shared_side(train.paths) or SIZE
    fits = (len(train.paths) + len(test.paths)) * 3 * side * side <= memory_gb * 1e9
    load = _decode_all if fits else _decode_later
    return Splits(load(train, side, flip, progress), load(test, side, flip, progress))


def _positive(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise WhatwhereError(f"{name} must be at least 1, or None, got {value}")


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


def _evenly(labels: NDArray[np.int64], limit: int | None, seed: int) -> NDArray[np.int64]:
    """Draw ``limit`` indices, in order; the counts of the classes differ by at most 1 where they have enough images."""
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    rng = np.random.default_rng((seed, len(labels)))
    turn = np.empty(len(labels), dtype=np.int64)  # each image's position in the queue of its class
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        turn[rng.permutation(mine)] = np.arange(len(mine))
    return np.sort(np.lexsort((labels, turn))[:limit])


def _shared_side(paths: list[Path], sample: int = 64) -> int | None:
    seen = set()
    for i in np.linspace(0, len(paths) - 1, min(sample, len(paths))).astype(int):
        try:
            seen.add(read_sides(paths[i]))
        except Unreadable:
            continue
    return min(seen.pop()) if len(seen) == 1 else None


def _try(path: Path, size: int) -> Tensor | str:
    """Return the pixels, or the reason why there are none."""
    try:
        return read_image(path, size)
    except Unreadable as error:
        return error.reason


def _decode_all(files: _Files, size: int, flip: bool, progress: bool) -> ImageDataset:
    """Decode every image now, with threads (decoders release Python's lock)."""
    images = torch.empty(len(files.paths), 3, size, size, dtype=torch.uint8)
    broken: list[Broken] = []
    kept: list[int] = []
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        results = track(
            pool.map(lambda path: _try(path, size), files.paths),
            f"reading {files.folder.name}",
            total=len(files.paths),
            console=Console(stderr=True),
            transient=True,
            disable=not progress,
        )
        for i, (path, result) in enumerate(zip(files.paths, results, strict=True)):
            if isinstance(result, str):
                broken.append(Broken(str(path), result))
            else:
                images[len(kept)] = result
                kept.append(i)
    read = files.only(np.array(kept, dtype=np.int64))
    for label in set(files.labels.tolist()) - set(read.labels.tolist()):
        raise _unreadable(files, label, size)
    files = read
    if broken:
        some = "".join(f"\n  {path}: {reason}" for path, reason in broken[:10])
        more = f"\n  and {len(broken) - 10} more" if len(broken) > 10 else ""
        warnings.warn(
            f"left out {len(broken)} broken images of {files.folder}:{some}{more}", RuntimeWarning, stacklevel=3
        )
    names = [str(path) for path in files.paths]
    labels = torch.from_numpy(files.labels)
    return MemoryDataset(images[: len(kept)], files.classes, labels, flip=flip, names=names, broken=broken)


def _decode_later(files: _Files, size: int, flip: bool, progress: bool) -> ImageDataset:
    for label in range(len(files.classes)):
        mine = (files.paths[i] for i in np.flatnonzero(files.labels == label))
        if all(isinstance(_try(path, size), str) for path in mine):
            raise _unreadable(files, label, size)
    return FolderDataset(files.paths, files.classes, torch.from_numpy(files.labels), size, flip=flip)


def _unreadable(files: _Files, label: int, size: int) -> WhatwhereError:
    paths = [path for path, other in zip(files.paths, files.labels.tolist(), strict=True) if other == label]
    return WhatwhereError(
        f"class {files.classes[label]!r} has no image that can be read: all {len(paths)} tried in "
        f"{files.folder / files.classes[label]} are broken, {paths[0].name} for example: {_try(paths[0], size)}"
    )
