"""Images with the objects in them, fetched a batch at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..broken import BrokenImages
from ..dataset import Broken
from ..image import Unreadable, read_fitted
from .objects import ImageObjects, Problem


class DetectionDataset(Dataset[dict[str, Any]]):
    """RGB images of any shape, each with boxes of objects.

    ``dataset.__getitems__([3, 1])`` returns a batch of B images:

    * ``images``: B tensors ``uint8 (3, h, w)``, the larger side is ``dataset.size``;
    * ``boxes``: B tensors ``float32 (k, 4)``: x1, y1, x2, y2 in pixels of these images (x2 and y2 exclusive);
    * ``labels``: B tensors ``int64 (k,)``, indices into ``dataset.classes``;
    * ``crowd`` and ``difficult``: B tensors ``bool (k,)``, objects that COCO or VOC mark so;
    * ``index``: ``int64 (B,)``, the indices of the images in the dataset.

    An image that cannot be read is left out of its batch, reported once, and listed in ``broken``.

    Args:
        records: one an image.
        classes: the names of the classes.
        size: the larger side of the images, in pixels.
        flip: whether an image may be mirrored without changing the classes of its objects.
        category_ids: the number of each class in COCO's format, by default from 1.
        problems: what was left out of the annotations, or mended.
        pixels: the images, where they are in memory.
        broken: images that were found unreadable before.

    Example:
        >>> from whatwhere.data import DetectionDataConfig, open_detection
        >>> train, test = open_detection(DetectionDataConfig(("scenes:train=20:test=10",)), progress=False)
        >>> batch = train.__getitems__([3, 1])
        >>> batch["images"][0].shape, batch["boxes"][0].shape[1], train.name(3)
        (torch.Size([3, 96, 96]), 4, 'scene 3')
    """

    def __init__(
        self,
        records: Sequence[ImageObjects],
        classes: Sequence[str],
        size: int,
        *,
        flip: bool = True,
        category_ids: Sequence[int] | None = None,
        problems: Sequence[Problem] = (),
        pixels: Sequence[Tensor] | None = None,
        broken: Sequence[Broken] = (),
    ) -> None:
        self.records = list(records)
        self.classes = tuple(classes)
        self.size = size
        self.flip = flip
        self.category_ids = tuple(category_ids) if category_ids else tuple(range(1, len(self.classes) + 1))
        self.problems = list(problems)
        self.pixels = pixels
        self._broken = list(broken)
        self._unread = BrokenImages([record.path for record in self.records], self._why)

    @property
    def broken(self) -> list[Broken]:
        """The images that could not be read so far."""
        return self._broken + self._unread.found()

    @property
    def image_ids(self) -> list[int]:
        """The number of each image in COCO's format."""
        return [record.image_id for record in self.records]

    def name(self, index: int) -> str:
        """Return the path of an image, or another name for it."""
        return self.records[index].path

    def truth(self, index: int) -> dict[str, Any]:
        """Return the objects of one image, in its own pixels, without reading it.

        ``boxes``, ``labels``, ``crowd``, ``difficult``, ``areas`` ``float32 (k,)``, ``size`` (height, width), ``name``
        and ``image_id``.
        """
        record = self.records[index]
        found = {key: getattr(record, key) for key in ("boxes", "labels", "crowd", "difficult", "areas", "size")}
        return {**found, "name": record.path, "image_id": record.image_id}

    def __len__(self) -> int:
        return len(self.records)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        images, kept = [], []
        for index in indices:
            pixels = self._fetch(index)
            if pixels is not None:
                images.append(pixels)
                kept.append(index)
        records = [self.records[index] for index in kept]
        boxes = [
            record.boxes * _scale(record.size, (image.shape[1], image.shape[2]))
            for record, image in zip(records, images, strict=True)
        ]
        return {
            "images": images,
            "boxes": boxes,
            **{key: [getattr(record, key) for record in records] for key in ("labels", "crowd", "difficult")},
            "index": torch.tensor(kept, dtype=torch.int64),
        }

    def _fetch(self, index: int) -> Tensor | None:
        if self.pixels is not None:
            return self.pixels[index]
        if index in self._unread:
            return None
        result = read_record(self.records[index], self.size)
        if isinstance(result, str):
            self._unread.add(index, result)
            return None
        return result

    def _why(self, index: int) -> str:
        result = read_record(self.records[index], self.size)
        return result if isinstance(result, str) else ""


class DetectionSplits(NamedTuple):
    """The images to train on, and those to test on."""

    train: DetectionDataset
    test: DetectionDataset

    def describe(self) -> str:
        """Return in words how many images, objects and classes there are."""

        def words(part: DetectionDataset) -> str:
            counts = [len(record.labels) for record in part.records]
            empty = f", {counts.count(0):,} images without any" if 0 in counts else ""
            return f"{len(counts):,} images with {sum(counts):,} objects{empty}"

        names = ", ".join(self.train.classes[:12]) + (", …" if len(self.train.classes) > 12 else "")
        return (
            f"{words(self.train)} to learn from; {words(self.test)} to test on; {len(self.train.classes)} classes "
            f"({names}); longest side {self.train.size} pixels"
        )


def read_record(record: ImageObjects, size: int) -> Tensor | str:
    """Return the pixels of an image ``uint8 (3, h, w)``, or the reason why there are none."""
    try:
        return read_fitted(Path(record.path), size, upright=record.upright)[0]
    except Unreadable as error:
        return error.reason


def _scale(size: tuple[int, int], fitted: tuple[int, int]) -> Tensor:
    """Return the factors on x1, y1, x2, y2 from an image of ``size`` (height, width) to one of size ``fitted``."""
    vertical, horizontal = fitted[0] / size[0], fitted[1] / size[1]
    return torch.tensor([horizontal, vertical, horizontal, vertical])
