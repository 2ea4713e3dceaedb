"""The tasks by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import WhatwhereError
from ..registry import Registry
from .config import restore
from .task import Task


@dataclass(frozen=True)
class Entry:
    """One registered task: its name, class, configuration dataclass, and one line about it."""

    name: str
    cls: type[Task]
    config: type[Any]
    title: str


TASKS = Registry[Entry]("task", package="whatwhere.tasks", group="whatwhere.tasks")

C = TypeVar("C", bound=type[Task])


def register(name: str, config: type[Any]) -> Callable[[C], C]:
    """Register a subclass of :class:`Task` under ``name``, with its configuration dataclass.

    Every field of the dataclass has a default; fields may be dataclasses themselves. The first line of the class's
    docstring says what the task is, and the docstring of the dataclass is the help text of ``whatwhere train NAME``.

    Raises:
        WhatwhereError: the name is taken, or the class is no subclass of :class:`Task`.
    """

    def add(cls: C) -> C:
        if not (isinstance(cls, type) and issubclass(cls, Task)):
            raise WhatwhereError(f"the task {name!r}: {cls!r} is no subclass of whatwhere.tasks.Task")
        title = (cls.__doc__ or name).strip().splitlines()[0].rstrip(".")
        TASKS.add(name, Entry(name, cls, config, title))
        cls.name = name
        return cls

    return add


def names() -> list[str]:
    """Return the names of all tasks, sorted."""
    return TASKS.names()


def entry(name: str) -> Entry:
    """Return what is registered under ``name``.

    Raises:
        WhatwhereError: no task has this name; the message lists them and names the nearest.
    """
    return TASKS[name]


def read_config(name: str, config: Any = None) -> Any:
    """Return a task's configuration as its dataclass.

    Args:
        name: the task.
        config: that dataclass, a dictionary of its fields, or None for the defaults.

    Raises:
        WhatwhereError: an unknown task, or a configuration that the task does not know.
    """
    found = entry(name)
    if config is None:
        return found.config()
    if isinstance(config, Mapping):
        return restore(found.config, {key: value for key, value in config.items() if key != "resolved"})
    if not isinstance(config, found.config):
        raise WhatwhereError(
            f"task {name!r} takes a {found.config.__name__} or a dictionary of its fields, not {type(config).__name__}"
        )
    return config


def create(name: str, config: Any = None) -> Task:
    """Build a task from its configuration: the dataclass, a plain dictionary, or nothing for the defaults.

    A dictionary may hold ``"resolved"``, as a task's own ``config`` does: what was found out from the data when the
    task was first made. The data is then opened only when ``train_set`` or ``test_set`` is asked for.

    Example:
        >>> data = {"data": "scenes:size=20:train=20:test=20"}
        >>> task = create("classify", {"data": data, "model": {"attention": "cbam"}})
        >>> create("classify", task.config).config == task.config
        True

    Raises:
        WhatwhereError: an unknown task, or a configuration that the task does not know.
    """
    resolved = config.get("resolved") if isinstance(config, Mapping) else None
    make: Callable[..., Task] = entry(name).cls
    return make(read_config(name, config), resolved=resolved)
