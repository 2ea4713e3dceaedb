"""Datasets that decode their images when they are asked for, and the choice to decode them all at once instead."""

import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ..errors import WhatwhereError
from .broken import BrokenImages
from .dataset import Broken, ImageDataset, MemoryDataset, Splits
from .image import Unreadable, read_image, read_sides


class OnDemandDataset(ImageDataset):
    """A dataset that decodes its images when they are asked for. A subclass defines :meth:`source` and :meth:`name`.

    An image that cannot be read is left out of its batch, reported once, and listed in ``broken`` from then on, also
    where the workers of a ``DataLoader`` decode.

    Args:
        place: where the images are, for messages.
        classes: see :class:`ImageDataset`.
        labels: see :class:`ImageDataset`.
        size: see :class:`ImageDataset`.
        flip: see :class:`ImageDataset`.

    Example:
        >>> from PIL import Image
        >>> class Reds(OnDemandDataset):
        ...     def source(self, index):
        ...         return Image.new("RGB", (40, 32), (200 + index, 0, 0))
        >>> dataset = Reds("memory", ["cat", "dog"], torch.tensor([0, 1]), 8, flip=True)
        >>> dataset.__getitems__([1])["images"][0, :, 0, 0].tolist()
        [201, 0, 0]
    """

    def __init__(self, place: object, classes: Sequence[str], labels: Tensor, size: int, *, flip: bool) -> None:
        super().__init__(classes, size, labels, flip=flip)
        self.place = str(place)
        self.unread = BrokenImages(_Names(self), self._why)

    def source(self, index: int) -> Any:
        """Return an image in a form that :func:`read_image` takes, or raise :class:`Unreadable`."""
        raise NotImplementedError

    def place_of(self, label: int) -> str:
        """Return where the images of a class are, for messages."""
        return self.place

    @property
    def broken(self) -> list[Broken]:
        """The images that could not be read so far."""
        return self.unread.found()

    def decode(self, index: int) -> Tensor | str:
        """Return the pixels ``uint8 (3, S, S)``, or the reason why there are none."""
        try:
            source = self.source(index)
        except Unreadable as error:
            return error.reason
        return pixels_or_reason(source, self.size)

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the images of ``indices`` and return those that can be read."""
        images, kept = [], []
        for index in indices.tolist():
            if index in self.unread:
                continue
            result = self.decode(index)
            if isinstance(result, str):
                self.unread.add(index, result)
            else:
                images.append(result)
                kept.append(index)
        stacked = torch.stack(images) if images else torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
        return stacked, torch.tensor(kept, dtype=torch.int64)

    def _why(self, index: int) -> str:
        result = self.decode(index)
        return result if isinstance(result, str) else ""


class _Names(Sequence[str]):
    """The names of a dataset's images, each made when it is needed."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self.dataset.name(i) for i in range(*index.indices(len(self)))]
        return self.dataset.name(index)


def pixels_or_reason(source: Any, size: int) -> Tensor | str:
    """Return what :func:`read_image` makes of an image, or the reason why it cannot be read.

    Example:
        >>> pixels_or_reason(b"", 8)
        'empty file'
    """
    try:
        return read_image(source, size)
    except Unreadable as error:
        return error.reason


def shared_side(sources: Iterable[Any]) -> int | None:
    """Return the short side of images that all have the same sides; None where they differ or none can be read.

    Example:
        >>> shared_side([torch.rand(3, 40, 64), torch.rand(3, 40, 64)])
        40
    """
    seen = set()
    for source in sources:
        try:
            seen.add(read_sides(source))
        except Unreadable:
            continue
    return min(seen.pop()) if len(seen) == 1 else None


def spread(length: int, sample: int = 64) -> list[int]:
    """Return at most ``sample`` indices, evenly over ``length``.

    Example:
        >>> spread(10, 4)
        [0, 3, 6, 9]
    """
    return [int(i) for i in np.linspace(0, length - 1, min(sample, length))]


def hold_or_check(train: OnDemandDataset, test: OnDemandDataset, memory_gb: float, *, progress: bool) -> Splits:
    """Decode both datasets now if they fit into ``memory_gb``; otherwise look that each class has a readable image.

    Raises:
        WhatwhereError: a class has no image that can be read.
    """
    fits = (len(train) + len(test)) * 3 * train.size**2 <= memory_gb * 1e9
    if fits:
        return Splits(_decode_all(train, progress), _decode_all(test, progress))
    return Splits(check_readable(train), check_readable(test))


def check_readable(dataset: OnDemandDataset) -> OnDemandDataset:
    """Return the dataset; each of its classes has an image that can be read.

    Raises:
        WhatwhereError: one has not.
    """
    labels = dataset.labels.numpy()
    for label in np.unique(labels).tolist():
        if all(isinstance(dataset.decode(int(i)), str) for i in np.flatnonzero(labels == label)):
            raise _unreadable(dataset, label)
    return dataset


def _decode_all(dataset: OnDemandDataset, progress: bool) -> MemoryDataset:
    """Decode every image now, with threads (decoders release Python's lock)."""
    images = torch.empty(len(dataset), 3, dataset.size, dataset.size, dtype=torch.uint8)
    broken: list[Broken] = []
    kept: list[int] = []
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        results = track(
            pool.map(dataset.decode, range(len(dataset))),
            f"reading {Path(dataset.place).name}",
            total=len(dataset),
            console=Console(stderr=True),
            transient=True,
            disable=not progress,
        )
        for i, result in enumerate(results):
            if isinstance(result, str):
                broken.append(Broken(dataset.name(i), result))
            else:
                images[len(kept)] = result
                kept.append(i)
    labels = dataset.labels[kept]
    for label in set(dataset.labels.tolist()) - set(labels.tolist()):
        raise _unreadable(dataset, label)
    if broken:
        some = "".join(f"\n  {path}: {reason}" for path, reason in broken[:10])
        more = f"\n  and {len(broken) - 10} more" if len(broken) > 10 else ""
        warnings.warn(
            f"left out {len(broken)} broken images of {dataset.place}:{some}{more}", RuntimeWarning, stacklevel=4
        )
    names = [dataset.name(i) for i in kept]
    return MemoryDataset(images[: len(kept)], dataset.classes, labels, flip=dataset.flip, names=names, broken=broken)


def _unreadable(dataset: OnDemandDataset, label: int) -> WhatwhereError:
    mine = np.flatnonzero(dataset.labels.numpy() == label)
    first = int(mine[0])
    return WhatwhereError(
        f"class {dataset.classes[label]!r} has no image that can be read: all {len(mine)} tried in "
        f"{dataset.place_of(label)} are broken, {Path(dataset.name(first)).name} for example: {dataset.decode(first)}"
    )
