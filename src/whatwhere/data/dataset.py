"""What every set of images looks like from outside: one small interface, and the set that lives in memory."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Broken(NamedTuple):
    """An image that could not be read, and why."""

    path: str
    reason: str


class ImageDataset(Dataset[dict[str, Tensor]]):
    """Square colour images with a class each, fetched a whole batch at a time.

    ``set.__getitems__([3, 1])`` (PyTorch's ``DataLoader`` calls it once a batch; give it ``collate_fn=identity``) returns

    * ``images``: ``uint8 (B, 3, S, S)``, RGB, with S = ``set.size``;
    * ``labels``: ``int64 (B,)``, numbers into ``set.classes``;
    * ``index``: ``int64 (B,)``, the images' numbers in this set.

    A set that decodes while it goes drops an image that cannot be read from its batch, so B can be smaller than what was
    asked for (``index`` says what came) and, in the worst case, 0. ``set[3]`` is one image, without the leading B.

    Attributes:
        classes: the names of the classes.
        size: side of the images, in pixels.
        labels: ``int64 (N,)``.
        flip: whether an image may be mirrored without changing its label.
        boxes: per image ``float32 (k, 4)`` with k objects as x1, y1, x2, y2 in pixels (x2 and y2 just outside), or None.
        sentences: a sentence per image that describes it, or None.
    """

    def __init__(
        self,
        classes: Sequence[str],
        size: int,
        labels: Tensor,
        *,
        flip: bool = True,
        boxes: list[Tensor] | None = None,
        sentences: list[str] | None = None,
        names: Sequence[str] | None = None,
        broken: Sequence[Broken] = (),
    ) -> None:
        self.classes = tuple(classes)
        self.size = size
        self.labels = labels
        self.flip = flip
        self.boxes = boxes
        self.sentences = sentences
        self._names = names
        self._broken = list(broken)

    @property
    def broken(self) -> list[Broken]:
        """The images found unreadable so far."""
        return list(self._broken)

    def name(self, index: int) -> str:
        """Return the path of an image, or what else it is known by."""
        return self._names[index] if self._names is not None else f"image {index}"

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(images, index)`` of those of ``indices`` that can be read; this is what a new kind of set writes."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        images, index = self.fetch(torch.as_tensor(indices, dtype=torch.int64))
        return {"images": images, "labels": self.labels[index], "index": index}

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        batch = self.__getitems__([index % len(self)])
        if not len(batch["index"]):
            raise OSError(f"{self.name(index % len(self))} cannot be read")
        return {key: value[0] for key, value in batch.items()}


class MemoryDataset(ImageDataset):
    """A set whose images all lie decoded in one tensor ``images``: ``uint8 (N, 3, S, S)``.

    ``describe`` holds the other attributes of :class:`ImageDataset` by name.

    >>> images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    >>> images = MemoryDataset(images, ["cat", "dog"], labels=torch.tensor([0, 1, 1, 0]))
    >>> images.__getitems__([2, 0])["labels"]
    tensor([1, 0])
    """

    def __init__(self, images: Tensor, classes: Sequence[str], labels: Tensor, **describe: Any) -> None:
        super().__init__(classes, images.shape[-1], labels, **describe)
        self.images = images

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the asked images, all of them."""
        return self.images[indices], indices


class Splits(NamedTuple):
    """Images to train on, and others to test on."""

    train: ImageDataset
    test: ImageDataset
