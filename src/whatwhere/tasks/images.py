"""The images of a task, as batches for its finished model."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from ..errors import WhatwhereError
from .task import Task


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
        WhatwhereError: an unknown part, a number below 1, or a task whose network is no function of its images.

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
        if not task.one_pass:
            raise WhatwhereError(
                f"the network of the task {task.name!r} is no single function of its images (it goes word by word, for "
                "example), so it cannot be exported, folded, or measured for redundancy"
            )
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
