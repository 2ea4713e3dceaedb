"""Images with sentences, fetched a batch at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from ..broken import BrokenImages
from ..dataset import Broken
from ..detection.objects import Problem
from ..image import Unreadable, read_image
from .scenes import Facts
from .vocabulary import END, Vocabulary


@dataclass(frozen=True)
class Described:
    """An image and the sentences that describe it.

    Attributes:
        path: of the image, or another name for it.
        captions: at least one.
        facts: of a digit scene.
        unseen: whether a scene has a combination that no training scene has.
    """

    path: str
    captions: tuple[str, ...]
    facts: Facts | None = None
    unseen: bool = False


class CaptionDataset(Dataset[dict[str, Any]]):
    """Square RGB images with sentences: an item is a sentence with its image, or an image with all its sentences.

    ``dataset.__getitems__([3, 1])`` returns a batch of B items:

    * ``images``: ``uint8 (B, 3, S, S)``, where S is ``dataset.size``; or, where :attr:`values` are set,
    * ``values``: what a frozen encoder made of the images, by name, ``float16 (B, …)``, and ``mirrored``, the same of
      the mirrored images, where there is that;
    * ``words``: ``int64 (B, T)``, only where items are sentences: the numbers of the words, the end, and more ends up
      to the longest sentence of the batch;
    * ``lengths``: ``int64 (B,)``, the words and the end, only with ``words``;
    * ``index``: ``int64 (B,)``, the indices of the items in the dataset.

    An image that cannot be read is left out of its batch, reported once, and listed in ``broken``.

    Args:
        images: with their sentences.
        vocabulary: the numbers of the words.
        size: side of the images, in pixels.
        sentences: whether items are sentences; otherwise they are images.
        flip: whether an image may be mirrored without changing its sentences.
        pixels: the images ``uint8 (N, 3, S, S)``, where they are in memory.
        problems: what was left out of the sentences, or mended.
        broken: images that were found unreadable before.

    Attributes:
        lengths: words and end of each item, where items are sentences; otherwise None.

    Example:
        >>> from whatwhere.data import CaptionDataConfig, open_captions
        >>> train, test = open_captions(CaptionDataConfig("scenes:train=20:test=10"), progress=False)
        >>> batch = train.__getitems__([3, 1])
        >>> batch["images"].shape, int(batch["lengths"][0]) == len(train.vocabulary.encode(train.caption(3))) + 1
        (torch.Size([2, 3, 56, 56]), True)
    """

    def __init__(
        self,
        images: Sequence[Described],
        vocabulary: Vocabulary,
        size: int,
        *,
        sentences: bool,
        flip: bool = True,
        pixels: Tensor | None = None,
        problems: Sequence[Problem] = (),
        broken: Sequence[Broken] = (),
    ) -> None:
        self.images = list(images)
        self.vocabulary = vocabulary
        self.size = size
        self.flip = flip
        self.pixels = pixels
        self.problems = list(problems)
        self.values: Mapping[str, Any] | None = None
        """What a frozen encoder made of all images, by name: arrays with the images first; see :meth:`use_values`."""
        self.mirrored: Mapping[str, Any] | None = None
        self._broken = list(broken)
        self._unread = BrokenImages([image.path for image in self.images], self._why)
        self._items: list[tuple[int, int]] | None = None
        self.lengths: list[int] | None = None
        if sentences:
            self._items = [(i, j) for i, image in enumerate(self.images) for j in range(len(image.captions))]
            self._words = [[*vocabulary.encode(self.caption(item)), END] for item in range(len(self._items))]
            self.lengths = [len(words) for words in self._words]

    @property
    def broken(self) -> list[Broken]:
        """The images that could not be read so far."""
        return self._broken + self._unread.found()

    def image_of(self, index: int) -> int:
        """Return which image an item is about."""
        return index if self._items is None else self._items[index][0]

    def caption(self, index: int) -> str:
        """Return the sentence of an item; the first one where items are images."""
        image, which = (index, 0) if self._items is None else self._items[index]
        return self.images[image].captions[which]

    def name(self, index: int) -> str:
        """Return the path of an item's image, or another name for it."""
        return self.images[self.image_of(index)].path

    def __len__(self) -> int:
        return len(self.images) if self._items is None else len(self._items)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        return self._batch(indices, self.values)

    def with_images(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return a batch with the images themselves, also where :attr:`values` are set."""
        return self._batch(indices, None)

    def _batch(self, indices: Sequence[int], values: Mapping[str, Any] | None) -> dict[str, Any]:
        pixels, kept = [], []
        for index in indices:
            image = self.image_of(index)
            one = self.fetch(image) if values is None else None
            if one is not None:
                pixels.append(one)
            if one is not None or (values is not None and image not in self._unread):
                kept.append(index)
        batch: dict[str, Any] = {"index": torch.tensor(kept, dtype=torch.int64)}
        if values is None:
            batch["images"] = (
                torch.stack(pixels) if pixels else torch.zeros(0, 3, self.size, self.size, dtype=torch.uint8)
            )
        else:
            images = [self.image_of(index) for index in kept]
            batch["values"] = _rows(values, images)
            if self.mirrored is not None:
                batch["mirrored"] = _rows(self.mirrored, images)
        if self._items is not None:
            words = [torch.tensor(self._words[index]) for index in kept]
            batch["words"] = (
                pad_sequence(words, batch_first=True, padding_value=END)
                if words
                else torch.zeros(0, 1, dtype=torch.int64)
            )
            batch["lengths"] = torch.tensor([len(one) for one in words], dtype=torch.int64)
        return batch

    def use_values(
        self, values: Mapping[str, Any], mirrored: Mapping[str, Any] | None, readable: Sequence[bool]
    ) -> None:
        """Give what a frozen encoder made of the images in place of the images.

        Args:
            values: by name, arrays ``float16`` with the images first.
            mirrored: the same of the mirrored images, or None.
            readable: for each image, whether there are values of it; the others count as broken.
        """
        self.values, self.mirrored = values, mirrored
        for image, there in enumerate(readable):
            if not there and image not in self._unread:
                self._unread.add(image, self._why(image) or "could not be read at first", warn=False)

    def fetch(self, image: int) -> Tensor | None:
        """Return the pixels of one image ``uint8 (3, S, S)``; None where it cannot be read, which is noted."""
        if self.pixels is not None:
            return self.pixels[image]
        if image in self._unread:
            return None
        result = read_described(self.images[image], self.size)
        if isinstance(result, str):
            self._unread.add(image, result)
            return None
        return result

    def _why(self, image: int) -> str:
        result = read_described(self.images[image], self.size)
        return result if isinstance(result, str) else ""


class CaptionSplits(NamedTuple):
    """The sentences to learn from, and the images to measure on."""

    train: CaptionDataset
    test: CaptionDataset

    def describe(self) -> str:
        """Return in words how many images, sentences and words there are."""

        def words(part: CaptionDataset) -> str:
            return f"{len(part.images):,} images with {sum(len(image.captions) for image in part.images):,} sentences"

        unseen = sum(image.unseen for image in self.test.images)
        more = f", {unseen:,} of them with a combination that is not learned from" if unseen else ""
        return (
            f"{words(self.train)} to learn from; {words(self.test)} to test on{more}; {len(self.train.vocabulary):,} "
            f"words, end and unknown included; side {self.train.size} pixels"
        )


def read_described(image: Described, size: int) -> Tensor | str:
    """Return the pixels of an image ``uint8 (3, size, size)``, or the reason why there are none."""
    try:
        return read_image(Path(image.path), size)
    except Unreadable as error:
        return error.reason


def _rows(values: Mapping[str, Any], images: Sequence[int]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array[images]) for name, array in values.items()}
