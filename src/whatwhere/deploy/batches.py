"""Images for a finished model: any iterable of batches, as the model takes them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import WhatwhereError
from ..tasks import Task


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
        if isinstance(data, (Tensor, Mapping)):
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
                "whatwhere.deploy.TaskImages(run.task)"
            )
        countable = isinstance(labels, Tensor) and labels.shape == images.shape[:1] and not labels.is_floating_point()
        if labels is not None and not countable:
            what = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
            raise WhatwhereError(
                f"batch {number} of {self.name} has labels that are {what}: give one whole number an image, "
                f"({len(images)},), or none"
            )
        return images, labels


class TaskImages:
    """The images of a task, prepared as in its training but not augmented, a batch at a time.

    A batch is a mapping with ``images``, what the model takes (:meth:`whatwhere.tasks.Task.inputs`), and with
    ``labels`` where its networks give a score for each class.

    Args:
        task: as of ``whatwhere.training.load_run(folder).task``.
        part: ``"test"`` or ``"train"``.
        limit: at most so many, evenly over the set.
        batch_size: images a batch.

    Raises:
        WhatwhereError: an unknown part, a number below 1.

    Example:
        >>> from whatwhere.tasks import create
        >>> task = create("classify", {"data": {"data": "scenes:size=20:train=20:test=20"}})
        >>> [len(batch["images"]) for batch in TaskImages(task, "train", limit=5, batch_size=3)]
        [3, 2]
    """

    def __init__(
        self, task: Task, part: Literal["test", "train"] = "test", *, limit: int | None = None, batch_size: int = 50
    ) -> None:
        if part not in ("test", "train"):
            raise WhatwhereError(f"part={part!r}: must be 'test' or 'train'")
        for name, value in (("limit", limit), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise WhatwhereError(f"{name}={value}: must be at least 1")
        self.task = task
        self.class_scores = task.class_scores
        self.part = part
        self.limit = limit
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        dataset = self.task.test_set if self.part == "test" else self.task.train_set
        total = len(dataset)
        count = total if self.limit is None else min(self.limit, total)
        chosen = [i * total // count for i in range(count)]
        for start in range(0, count, self.batch_size):
            batch = dataset.__getitems__(chosen[start : start + self.batch_size])
            prepared = self.task.prepare(batch, torch.device("cpu"))
            labels = {"labels": prepared["labels"]} if self.class_scores else {}
            yield {"images": self.task.inputs(prepared), **labels}
