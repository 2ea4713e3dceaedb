"""One run of a study: what is asked for, what it comes to, and making it."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..files import write_text
from ..imports import import_modules, named
from ..tasks import Task, create
from ..training import NotFinite, Recipe, train
from ..training.checkpoint import read_info
from ..training.folder import FolderInUse, RunFolder


@dataclass(frozen=True)
class Job:
    """One run to be made: an arm with a seed, in a folder of its own. It can be pickled."""

    arm: str
    seed: int
    task: str
    config: dict[str, Any]
    recipe: Recipe
    folder: Path
    modules: tuple[str, ...] = field(default_factory=named)
    """What registers names that it uses, see :mod:`whatwhere.imports`."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        arm: the arm's name.
        seed: the seed.
        curve: the headline metric after each epoch, in its unit.
        losses: mean training loss of each epoch.
        seconds: spent on training and measuring.
        broken: images that could not be read.
        error: why the run has no result (its loss stopped being finite), or an empty string.
        columns: the task's other metrics that stand in the table, after the last epoch, by their keys, in their units.
        machines: the kinds of machine that it was trained on: more than one where it was resumed on another.
    """

    arm: str
    seed: int
    curve: list[float]
    losses: list[float]
    seconds: float
    broken: list[str]
    error: str = ""
    columns: dict[str, float] = field(default_factory=dict)
    machines: list[dict[str, str]] = field(default_factory=list)


class Executor(Protocol):
    """Where the runs of a study are made; a study enters it before the first run that it makes and leaves it after the
    last.

    A job that is submitted ends in what :func:`run_job` returns for it, in this process or another: ``future.result()``
    is the :class:`Outcome` or raises. ``job.folder`` must be the same folder there and here. A study submits all
    jobs of a look at once; the executor decides how many run at a time, and which finished first does not matter. When
    it is left with an exception, nothing that it started goes on.
    """

    def submit(self, job: Job) -> "Future[Outcome]":
        """Begin a run, now or as soon as a worker is free."""
        ...

    def __enter__(self) -> "Executor": ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool | None: ...


def run_jobs(jobs: Sequence[Job], executor: Executor, on_wait: Callable[[], None] = lambda: None) -> Iterator[Outcome]:
    """Have an executor run all jobs and yield outcomes as they come; ``on_wait`` is called about twice a second.

    Those of runs that are finished already come first, and are only read.
    """
    left = []
    for job in jobs:
        outcome = read_job(job)
        if outcome is None:
            left.append(job)
        else:
            yield outcome
    if not left:
        return
    with executor:
        pending = {executor.submit(job) for job in left}
        while pending:
            done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            on_wait()


DIVERGED = "diverged.txt"
"""The file in a run's folder that says why it has no result."""

_earlier: dict[str, Task] = {}  # the last task of each name, whose data the next run of this process may share


def run_job(job: Job) -> Outcome:
    """Train one run in this process.

    A run that was stopped goes on from its last checkpoint; a finished one is only read. Where another process still
    trains in the folder, one that a killed study left behind for example, the run waits for it.
    """
    import_modules(job.modules)
    task = create(job.task, job.config)
    if job.task in _earlier:
        task.share_data(_earlier[job.task])
    _earlier[job.task] = task
    folder = RunFolder(job.folder)
    while True:
        try:
            result = train(task, job.recipe, job.folder, resume=True, progress=False)
            break
        except FolderInUse:
            time.sleep(2)
        except NotFinite as error:
            write_text(job.folder / DIVERGED, str(error) + "\n")
            return Outcome(job.arm, job.seed, [], [], 0.0, [], str(error), machines=folder.read_machines())
    curve = [task.headline.scale * value for value in result.headline]
    losses = [row["train_loss"] for row in result.rows]
    last = {metric: result.rows[-1].get(f"test_{metric.key}") for metric in task.columns}
    columns = {metric.key: metric.scale * value for metric, value in last.items() if value is not None}
    machines = folder.read_machines()
    return Outcome(job.arm, job.seed, curve, losses, result.seconds, result.broken, columns=columns, machines=machines)


def read_job(job: Job) -> Outcome | None:
    """Return what a run came to, or None where it is not finished; nothing is trained."""
    folder = RunFolder(job.folder)
    if folder.last.exists() and read_info(folder.last)["epoch"] >= job.recipe.epochs:
        return run_job(job)
    if (job.folder / DIVERGED).exists():
        error = (job.folder / DIVERGED).read_text(encoding="utf-8").strip()
        return Outcome(job.arm, job.seed, [], [], 0.0, [], error, machines=folder.read_machines())
    return None


def epochs_done(job: Job) -> int:
    """Return how many epochs of a run are done, wherever it is made."""
    return len(RunFolder(job.folder).rows("epoch"))
