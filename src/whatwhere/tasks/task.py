"""What a task is: model, data, loss and metrics of one thing that a network can learn.

A new task is one file: a configuration dataclass, a subclass of :class:`Task`, and ``@register("name", Config)`` above
it. Training, studies, looks, costs, export and the command line know nothing else. A file of another package names its
module as an entry point of the group ``whatwhere.tasks``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from ..cost.counts import count_parameters
from ..errors import WhatwhereError
from ..layers import entry as layer_entry
from ..layers import names as layer_names
from ..layers import parse
from ..networks import ModelConfig, build_plain, narrow, widen
from .config import plain, restore
from .drawing import Drawing
from .metric import Headline, Metric

Batch = dict[str, Any]


class CannotWiden(WhatwhereError):
    """A task's network cannot be widened, so there is no same-cost control; the message says why."""


class CannotNarrow(WhatwhereError):
    """A task's network cannot be narrowed, so there is no control of the same cost; the message says why."""


class CannotDraw(WhatwhereError):
    """A task does not say how to draw a result."""


class Dataset(Protocol):
    """What training asks of a data set; ``whatwhere.data.ImageDataset`` has it and more.

    A data set that decodes while it goes may also have ``broken``, the images found unreadable so far, each with
    ``path`` and ``reason``; one with annotations may have ``problems``, what was left out of them or mended, each with
    ``path``, ``object`` and ``reason``. One whose items have lengths may have ``lengths``: a batch to learn from then
    has items of about one length.

    A data set to learn from that is not read by index also has ``stream(seed, batch_size=, batches=, rank=,
    processes=)``, which returns a process's :class:`Stream` of one epoch. Training then takes its batches from there,
    and can only resume at the end of an epoch.
    """

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return a whole batch.

        ``index`` is ``int64 (B,)``, the numbers of the images that could be read. Every other tensor has the images
        first, in that order.
        """
        ...

    def name(self, index: int) -> str:
        """Return the path, or another name, of one image."""
        ...


class Stream(Protocol):
    """One process's batches of one epoch, a pure function of what ``Dataset.stream`` was called with.

    Iterated over in worker ``i`` of ``n`` (:func:`torch.utils.data.get_worker_info`) it gives every n-th batch, from
    batch i on. A batch has ``batch_size`` images; those that could not be read are in the data set's ``broken``.
    """

    def __iter__(self) -> Iterator[Batch]: ...

    def workers(self, asked: int) -> int:
        """Return how many loading processes, at most ``asked``, can share the stream."""
        ...


class Evidence(ABC):
    """More columns of a study's table, measured on every trained network."""

    columns: tuple[Metric, ...]
    """What is measured. A column that no network has a value for is left out."""
    chance: Metric | None = None
    """The value that a network or a map without information would have; its ``sentence`` becomes a remark."""
    reading: str = ""
    """How to read the columns, in a sentence for the report."""

    @abstractmethod
    def measure(self, model: nn.Module) -> dict[str, float]:
        """Measure one trained network on test images; return values by the metrics' keys, nan where there is none."""


class Task(ABC):
    """One thing that a network can learn. A task is made as ``cls(config, resolved=None)``.

    Needed: ``config``, ``headline``, ``train_set``, ``test_set``, :meth:`build`, :meth:`prepare`, :meth:`loss`,
    :meth:`metrics`, :meth:`score`. Everything else has a default that holds for networks that are called with
    ``batch["images"]`` and for configurations whose field ``model`` is a :class:`whatwhere.ModelConfig`; a task of
    another form overrides what is different.

    ``config`` is plain (JSON) data with everything resolved: ``create(task.name, task.config)`` gives the same task
    without opening the data, so that a finished run can be looked at where the data is not. What was found out from the
    data, such as the names of classes, stands in ``config["resolved"]`` and comes back as the argument ``resolved``.

    ``tests/tasks/points.py`` in the repository is a whole task in 100 lines.
    """

    name: ClassVar[str]
    """The name that it is registered under; set by ``@register``."""
    config: dict[str, Any]
    headline: Headline
    """The metric that says how good the network is; its key is one of those that :meth:`metrics` computes."""
    columns: ClassVar[tuple[Metric, ...]] = ()
    """More of those metrics: they stand beside the headline in a study's table."""
    recipe: ClassVar[Mapping[str, Any]] = {}
    """Fields of :class:`whatwhere.training.Recipe` whose default is another one for this task."""

    @property
    @abstractmethod
    def train_set(self) -> Dataset:
        """The images to learn from; opened when first asked for."""

    @property
    @abstractmethod
    def test_set(self) -> Dataset:
        """The images to measure on; opened when first asked for."""

    @abstractmethod
    def build(self, seed: int, *, pretrained: bool = True) -> nn.Module:
        """Return the network on the CPU, its first weights a pure function of ``config`` and ``seed``.

        ``pretrained=False`` fetches nothing: for a caller that loads a checkpoint next, or only measures costs.
        """

    @abstractmethod
    def prepare(self, batch: Batch, device: torch.device, generator: torch.Generator | None = None) -> Batch:
        """Bring a batch of the data set to what the model takes: on the device, floating, normalised.

        With a ``generator`` (on the CPU) the images are augmented too, as a pure function of its state.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a prepared batch, a scalar, and detached scalars for the log, means over the batch."""

    @abstractmethod
    def metrics(self) -> Any:
        """Return a fresh ``torchmetrics.MetricCollection`` (or anything with ``to``, ``compute`` and ``reset``)."""

    @abstractmethod
    def score(self, model: nn.Module, batch: Batch, metrics: Any) -> Tensor | None:
        """Run the model on a prepared batch of the test set and update ``metrics``.

        Return the score of each image ``(B,)`` where the headline metric is the mean of such scores over the test
        images, otherwise None. A study needs them for the interval that holds for other test images too.
        """

    # Optional: what is kept of an evaluation.

    def write_results(self, metrics: Any, folder: Path) -> None:  # noqa: B027 a default, not something to fill in
        """Write what :meth:`score` gathered, once it has been computed, into a run's folder; by default nothing.

        Training calls it whenever the network is the best one so far.
        """

    # Optional: what the model takes and gives, for costs, export and folding.

    class_scores: ClassVar[bool] = False
    """Whether the network gives a score for each class, ``(B, K)``, and batches have ``labels``, ``int64 (B,)``."""

    one_pass: ClassVar[bool] = True
    """Whether the network is one function of its images, which is what can be exported, folded, and measured for
    redundancy."""

    def inputs(self, batch: Batch) -> Tensor:
        """Return what the model is called with; by default ``batch["images"]``."""
        images: Tensor = batch["images"]
        return images

    def predict(self, model: nn.Module, batch: Batch) -> Any:
        """Return what the model makes of a prepared batch: the work of one inference."""
        return model(self.inputs(batch))

    def example(self, batch_size: int, device: torch.device) -> Batch:
        """Return a prepared batch that costs are measured with; by default the first training images.

        Raises:
            WhatwhereError: there is no training image.
        """
        count = len(self.train_set)
        if count == 0:
            raise WhatwhereError("the training set has no images")
        return self.prepare(self.train_set.__getitems__([i % count for i in range(batch_size)]), device)

    # Optional: how a study gets its networks. Each hook returns another config of the same task.

    attentions: ClassVar[tuple[str, ...]] = ("se", "cbam", "cbam:paper")
    """What a study compares with the plain network where it is not said."""
    seeds: ClassVar[int] = 4
    """How many times a study trains each network where it is not said."""

    @classmethod
    def all_attentions(cls) -> tuple[str, ...]:
        """Return what ``--attention all`` of a study stands for: every attention that can start as the identity."""
        return tuple(name for name in layer_names() if layer_entry(name).exact_identity)

    @classmethod
    def describe_attention(cls, text: str) -> str:
        """Return what an attention is, in words, as it is written for :meth:`attended`.

        Raises:
            WhatwhereError: there is no such attention; the message says what is allowed.
        """
        spec = parse(text)
        start = "identity start" if spec.identity else "the paper's form"
        return f"{layer_entry(spec.name).title}, {start}"

    @property
    def network(self) -> ModelConfig | None:
        """The network in ``config["model"]``; None where that is not a :class:`whatwhere.ModelConfig`."""
        values = self.config.get("model")
        known = {field.name for field in fields(ModelConfig)}
        return restore(ModelConfig, values) if isinstance(values, Mapping) and values.keys() <= known else None

    def attended(self, attention: str) -> dict[str, Any]:
        """Return the ``config`` of the same task with this attention in its network; ``"none"`` for the plain network.

        Raises:
            WhatwhereError: the task does not say where its network takes attention.
        """
        if self.network is None:
            raise WhatwhereError(
                f"the task {self.name!r} has no ModelConfig in its field 'model' and does not say how its network gets "
                "attention: override Task.attended"
            )
        return {**self.config, "model": {**self.config["model"], "attention": attention}}

    def ghosted(self, ghost: str) -> dict[str, Any]:
        """Return the ``config`` of the same task with ghost convolutions in its network, see
        :attr:`whatwhere.ModelConfig.ghost`.

        Raises:
            WhatwhereError: the task's network is not made from a :class:`whatwhere.ModelConfig`.
        """
        if self.network is None:
            raise WhatwhereError(
                f"the task {self.name!r} has no ModelConfig in its field 'model' and does not say how its network gets "
                "ghost convolutions: override Task.ghosted"
            )
        return {**self.config, "model": {**self.config["model"], "ghost": ghost}}

    def narrowed(self, multiply_adds: int) -> dict[str, Any]:
        """Return the ``config`` of the plain network with fewer channels: the control for ghost convolutions.

        Args:
            multiply_adds: how many it should have for one image.

        Raises:
            CannotNarrow: there is no such network; the message says why.
        """
        network, size = self._resizable(CannotNarrow, "narrow")
        narrower = narrow(network, multiply_adds, size)
        if narrower is None:
            raise CannotNarrow(f"how to narrow {network.name!r} to {multiply_adds:,} multiply-adds is not known")
        return {**self.config, "model": plain(narrower)}

    def widened(self, extra: int) -> dict[str, Any]:
        """Return the ``config`` of the plain network with more channels: the control of a study.

        Args:
            extra: how many parameters it must have more, at least.

        Raises:
            CannotWiden: there is no such network; the message says why.
        """
        network, size = self._resizable(CannotWiden, "widen")
        wider = widen(network, count_parameters(build_plain(network)) + extra, size)
        if wider is None:
            raise CannotWiden(f"how to widen {network.name!r} is not known")
        return {**self.config, "model": plain(wider)}

    def _resizable(self, error: type[WhatwhereError], verb: str) -> tuple[ModelConfig, int]:
        """Return the network and the side of its images if its widths may be changed, or raise."""
        network = self.network
        if network is None:
            raise error(f"how to {verb} the network of the task {self.name!r} is not known")
        if network.trained:
            raise error(f"a {verb}ed network has no pretrained weights to start from")
        return network, int(self.inputs(self.example(1, torch.device("cpu"))).shape[-1])

    def share_data(self, earlier: "Task") -> None:  # noqa: B027 a default, not something to fill in
        """Take over the open data of an earlier task of this process, if it is the same; by default nothing."""

    # Optional: what reports and looks show.

    def describe_data(self) -> str:
        """Return the data in words, for the head of a report."""
        return f"{self.name}: {len(self.train_set):,} images to learn from, {len(self.test_set):,} to test on"

    def describe_image(self, index: int) -> str:
        """Return a test image in words, with the truth if that is short; by default the name of its file."""
        return Path(self.test_set.name(index)).name

    @property
    def evidence(self) -> Evidence | None:
        """What else a study measures on this task's networks; by default nothing."""
        return None

    def look(self, model: nn.Module, image: Any, *, target: str | None = None, title: str | None = None) -> Drawing:
        """Draw what a network makes of one image; without this there is no ``whatwhere look`` and no image in a report.

        Args:
            model: a network of this task, on any device; it is left as it was.
            image: the number of a test image, or an image in any form that :func:`whatwhere.look` takes.
            target: what is to be explained, where the task takes that.
            title: a line above the figure.

        Raises:
            CannotDraw: the task does not say how.
            WhatwhereError: an image that cannot be read, or a target that the task does not have.
        """
        raise CannotDraw(f"the task {self.name!r} does not say how to draw a result: it has no method look")


def in_channels_last(batch: Batch) -> Batch:
    """Return a batch with its maps, the tensors of four dimensions, in the channels-last format."""
    return {
        key: value.contiguous(memory_format=torch.channels_last)
        if isinstance(value, Tensor) and value.ndim == 4
        else value
        for key, value in batch.items()
    }
