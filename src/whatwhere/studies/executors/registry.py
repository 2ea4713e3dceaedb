"""The executors by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...registry import Registry
from ..jobs import Executor


@dataclass(frozen=True)
class Needs:
    """What the runs of a study need from an executor.

    Attributes:
        out: the study's folder; every run has its own below it.
        at_once: how many runs to make at a time, where this machine makes them.
        threads: CPU threads of each run.
        loaders: processes that load images beside each run.
        gpu: whether runs take a GPU where there is one.
    """

    out: Path
    at_once: int = 1
    threads: int = 1
    loaders: int = 0
    gpu: bool = True

    @property
    def cpus(self) -> int:
        """CPU cores that a run keeps busy."""
        return self.threads + self.loaders


Make = Callable[[str, Needs], Executor]
"""Makes an executor from what stands behind its name in ``--on NAME:OPTIONS`` (an empty string where nothing does)."""


@dataclass(frozen=True)
class Entry:
    """One registered executor: its name, how it is made, and a line about it."""

    name: str
    make: Make
    title: str


EXECUTORS = Registry[Entry]("executor", package="whatwhere.studies.executors", group="whatwhere.executors")

M = TypeVar("M", bound=Make)


def register(name: str) -> Callable[[M], M]:
    """Register what makes an executor, a function or a class, under ``name``, for ``whatwhere study --on NAME``.

    It is called with the options as text and the study's :class:`Needs`, before anything is started, and raises
    :class:`whatwhere.errors.WhatwhereError` for options that it does not know. The first line of its docstring says
    where the runs are made.

    Example:
        >>> from whatwhere.studies.executors import ProcessExecutor
        >>> from whatwhere.studies.executors.registry import EXECUTORS
        >>> @register("example")
        ... def example(options, needs):
        ...     "Worker processes, two of them."
        ...     return ProcessExecutor(2, needs.threads)
        >>> make_executor("example", Needs(Path("study"))).workers
        2
        >>> EXECUTORS.discard("example")

    Raises:
        WhatwhereError: the name is taken, or is none.
    """

    def add(make: M) -> M:
        title = (make.__doc__ or name).strip().splitlines()[0].rstrip(".")
        EXECUTORS.add(name, Entry(name, make, title))
        return make

    return add


def names() -> list[str]:
    """Return the names of all executors, sorted."""
    return EXECUTORS.names()


def entry(on: str) -> Entry:
    """Return what is registered under the name in ``NAME[:OPTIONS]``.

    Raises:
        WhatwhereError: no executor has this name; the message lists them and names the nearest.
    """
    return EXECUTORS[on.partition(":")[0]]


def make_executor(on: str, needs: Needs) -> Executor:
    """Make the executor that ``NAME[:OPTIONS]`` asks for.

    Raises:
        WhatwhereError: an unknown name, options that the executor does not know, or its package is not installed.
    """
    return entry(on).make(on.partition(":")[2], needs)
