"""What the training loop asks of a task, and the register of the tasks by name.

A new task is one new file in this folder: a configuration dataclass, a class with the members of :class:`Task`, and
``@register("name", Config)`` above the class. The training loop, the command line and ``load_run`` find it by its name.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError, closest
from .config import plain, restore

Batch = dict[str, Any]


class Dataset(Protocol):
    """What the loop asks of a data set; ``whatwhere.data.ImageDataset`` has it and more."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return a whole batch; every tensor in it has the images first; broken images may be missing."""
        ...

    def name(self, index: int) -> str:
        """Return the path, or another name, of one image."""
        ...


class Task(Protocol):
    """Model, data, loss and metrics of one thing that a network can learn. The loop knows nothing else.

    ``config`` is plain (JSON) data with everything resolved: ``create(task.name, task.config)`` gives the same task,
    and gives it without opening the data, so that a finished run can be looked at where the data is not.
    """

    name: str
    config: dict[str, Any]
    headline: str
    """The metric that says how good the network is; a key of what :meth:`metrics` computes."""
    higher_is_better: bool

    @property
    def train_set(self) -> Dataset:
        """The images to learn from; opened when first asked for."""
        ...

    @property
    def test_set(self) -> Dataset:
        """The images to measure on; opened when first asked for."""
        ...

    @property
    def viewing(self) -> dict[str, Any]:
        """What :func:`whatwhere.look` needs beside the network: ``classes``, ``size``, ``mean``, ``std``."""
        ...

    def build(self, seed: int, *, pretrained: bool = True) -> nn.Module:
        """Return the network, its first weights a pure function of ``config`` and ``seed``.

        ``pretrained=False`` fetches nothing: for a caller that loads a checkpoint next.
        """
        ...

    def prepare(self, batch: Batch, device: torch.device, generator: torch.Generator | None = None) -> Batch:
        """Bring a batch of the data set to what the model takes: device, float, normalised.

        With a ``generator`` (on the CPU) the images are augmented too, as a pure function of its state.
        """
        ...

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a scalar to differentiate, and detached scalars for the log (means over the batch)."""
        ...

    def metrics(self) -> Any:
        """Return a fresh ``torchmetrics.MetricCollection`` (or anything with ``to``, ``compute`` and ``reset``)."""
        ...

    def score(self, model: nn.Module, batch: Batch, metrics: Any) -> None:
        """Run the model on a prepared batch of the test set and update ``metrics``."""
        ...


@dataclasses.dataclass(frozen=True)
class Entry:
    """One registered task: its name, class, configuration dataclass, and one line about it."""

    name: str
    cls: Callable[..., Any]
    config: type[Any]
    title: str


C = TypeVar("C", bound=Callable[..., Any])
_entries: dict[str, Entry] = {}
_found = False


def register(name: str, config: type[Any]) -> Callable[[C], C]:
    """Register a task class under ``name``; it is called as ``cls(config, resolved=None)``."""

    def add(cls: C) -> C:
        title = (cls.__doc__ or name).strip().splitlines()[0].rstrip(".")
        _entries[name] = Entry(name, cls, config, title)
        return cls

    return add


def names() -> list[str]:
    """Return the names of all tasks, sorted."""
    _discover()
    return sorted(_entries)


def entry(name: str) -> Entry:
    """Return what is registered under ``name``.

    Raises:
        WhatwhereError: no task has this name.
    """
    _discover()
    if name not in _entries:
        raise WhatwhereError(f"no task is named {name!r}; the tasks: {', '.join(names())}{closest(name, _entries)}")
    return _entries[name]


def create(name: str, config: Any = None) -> Task:
    """Build a task from its configuration: the dataclass, a plain dictionary, or nothing for the defaults.

    A dictionary may hold ``"resolved"``, which a task's own ``config`` has: what was found out from the data when the
    task was made first. The data is then opened only when ``train_set`` or ``test_set`` is asked for.

    Example::

        task = create("classify", {"data": {"data": "scenes"}, "model": {"attention": "cbam"}})
        same = create("classify", task.config)

    Raises:
        WhatwhereError: an unknown task, or a configuration that the task does not know.
    """
    found = entry(name)
    if config is None:
        config = found.config()
    resolved = None
    if isinstance(config, Mapping):
        values = dict(config)
        resolved = values.pop("resolved", None)
        config = restore(found.config, values)
    if not isinstance(config, found.config):
        raise WhatwhereError(
            f"task {name!r} takes a {found.config.__name__} or a dictionary of its fields, not {type(config).__name__}"
        )
    task: Task = found.cls(config, resolved=resolved)
    return task


def _discover() -> None:
    global _found
    if _found:
        return
    package = importlib.import_module(__package__ or "whatwhere.tasks")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    _found = True


__all__ = ["Batch", "Dataset", "Entry", "Task", "create", "entry", "names", "plain", "register", "restore"]
