"""Images for a model: any iterable of batches, as the model takes them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import WhatwhereError

CHUNK = 64
"""Images that are taken at a time from one large tensor."""


class Batches:
    """Batches of images, with labels where there are some, that can be iterated more than once.

    Args:
        data: a tensor ``(N, C, H, W)``, or an iterable of batches. A batch is such a tensor, a pair (images, labels),
            or a mapping with ``images`` and perhaps ``labels``; a ``DataLoader`` gives that. Images are floating and
            normalised, as the model takes them; labels are ``int64 (N,)``. An iterator, which can be used only once,
            is read into memory.
        name: what an error calls them.

    Raises:
        WhatwhereError: not an iterable; while iterating: a batch that is none of these.
    """

    def __init__(self, data: Any, name: str = "data") -> None:
        self.name = name
        if isinstance(data, Tensor) and data.ndim == 4:
            data = torch.split(data, CHUNK)
        elif isinstance(data, (Tensor, Mapping)):
            data = [data]
        if not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
            raise WhatwhereError(f"{name} is a {type(data).__name__}: give an iterable of batches of images")
        self.class_scores: bool = getattr(data, "class_scores", True)
        """Whether a model's output ``(N, K)`` may be taken as a score for each of K classes."""
        self.data: Iterable[Any] = list(data) if isinstance(data, Iterator) else data

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        for number, batch in enumerate(self.data):
            images, labels = self._read(batch, number)
            if len(images):
                yield images, labels

    def first(self) -> Tensor:
        """Return the images of the first batch.

        Raises:
            WhatwhereError: there are none.
        """
        for images, _ in self:
            return images
        raise WhatwhereError(f"{self.name} has no images in it: give at least one batch")

    def _read(self, batch: Any, number: int) -> tuple[Tensor, Tensor | None]:
        images, labels = batch, None
        if isinstance(batch, Mapping):
            images, labels = batch.get("images"), batch.get("labels")
        elif isinstance(batch, (tuple, list)) and batch:
            images, labels = batch[0], batch[1] if len(batch) > 1 else None
        if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
            what = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
            raise WhatwhereError(
                f"batch {number} of {self.name} has images that are {what}: give floating tensors (N, C, H, W), "
                "normalised as the model takes them, alone or in pairs with labels. For the images of a run: "
                "whatwhere.tasks.TaskImages(run.task)"
            )
        countable = isinstance(labels, Tensor) and labels.shape == images.shape[:1] and not labels.is_floating_point()
        if labels is not None and not countable:
            what = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
            raise WhatwhereError(
                f"batch {number} of {self.name} has labels that are {what}: give one whole number an image, "
                f"({len(images)},), or none"
            )
        return images, labels
