"""The interface of an image dataset, and the dataset that is held in memory."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Broken(NamedTuple):
    """An image that could not be read, and why.

    Example:
        >>> Broken("cat.jpg", "empty file").reason
        'empty file'
    """

    path: str
    reason: str


class ImageDataset(Dataset[dict[str, Tensor]]):
    """Square RGB images, each of one class, fetched a batch at a time. A subclass defines :meth:`fetch`.

    ``dataset.__getitems__([3, 1])`` returns a batch. A ``DataLoader`` calls it once for each batch; give it a
    ``collate_fn`` that returns its argument.

    * ``images``: ``uint8 (B, 3, S, S)``, where S is ``dataset.size``;
    * ``labels``: ``int64 (B,)``, indices into ``dataset.classes``;
    * ``index``: ``int64 (B,)``, the indices of the images in the dataset.

    A dataset that decodes images on demand leaves out those that it cannot read. B can therefore be smaller than the
    number of images asked for, even 0; ``index`` says which came. ``dataset[3]`` is one image, without the axis B.

    Attributes:
        classes: the names of the classes.
        size: side of the images, in pixels.
        labels: ``int64 (N,)``.
        flip: whether an image may be mirrored without changing its label.
        boxes: for each image, ``float32 (k, 4)`` with its k objects as x1, y1, x2, y2 in pixels (x2 and y2 exclusive);
            or None.
        sentences: for each image, a sentence that describes it; or None.

    Example:
        >>> import torch
        >>> class Grey(ImageDataset):
        ...     def fetch(self, indices):
        ...         return torch.full((len(indices), 3, self.size, self.size), 128, dtype=torch.uint8), indices
        >>> dataset = Grey(["cat", "dog"], size=8, labels=torch.tensor([0, 1, 1]))
        >>> dataset[2]["images"].shape, dataset.name(2)
        (torch.Size([3, 8, 8]), 'image 2')
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
        """The images that could not be read so far."""
        return list(self._broken)

    def name(self, index: int) -> str:
        """Return the path of an image, or another name for it."""
        return self._names[index] if self._names is not None else f"image {index}"

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(images, index)`` for those of ``indices`` that can be read."""
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
    """A dataset whose decoded images are all in one tensor.

    Args:
        images: ``uint8 (N, 3, S, S)``.
        classes: see :class:`ImageDataset`.
        labels: see :class:`ImageDataset`.
        attributes: its other attributes, by name.

    Example:
        >>> import torch
        >>> images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
        >>> dataset = MemoryDataset(images, ["cat", "dog"], labels=torch.tensor([0, 1, 1, 0]))
        >>> dataset.__getitems__([2, 0])["labels"]
        tensor([1, 0])
    """

    def __init__(self, images: Tensor, classes: Sequence[str], labels: Tensor, **attributes: Any) -> None:
        super().__init__(classes, images.shape[-1], labels, **attributes)
        self.images = images

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images of all ``indices``."""
        return self.images[indices], indices


class Splits(NamedTuple):
    """The images to train on, and those to test on.

    Example:
        >>> import torch
        >>> images, labels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 1, 0])
        >>> dataset = MemoryDataset(images, ["cat", "dog"], labels)
        >>> len(Splits(dataset, dataset).test)
        4
    """

    train: ImageDataset
    test: ImageDataset
