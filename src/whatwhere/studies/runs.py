"""The runs of a study, look by look: which are missing, and what is known after them."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..tables import counted
from ..tasks import Task
from ..training import Recipe
from ..training.progress import duration
from .arms import Arm
from .config import StudyConfig
from .crossed import ImageScores
from .folder import StudyFolder
from .jobs import Executor, Job, Outcome, read_job, run_jobs
from .sequence import Looks
from .show import LiveTable


class Runs:
    """Makes the runs that the looks of a study need, or only reads those that are finished.

    Args:
        arms: the networks, the plain one first.
        recipe: how each is trained, with the seed of the first run.
        folder: the study's.
        board: shows how far the runs are.
        executor: makes the runs; None: they are only read.
        at_once: how many runs are made at a time, for the time that they take together.

    Attributes:
        jobs: the runs that the looks so far need.
        outcomes: what they came to; fewer than ``jobs`` where runs are only read and some are not finished.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        recipe: Recipe,
        folder: StudyFolder,
        board: LiveTable,
        executor: Executor | None,
        at_once: int = 1,
    ) -> None:
        self.arms = arms
        self.recipe = recipe
        self.folder = folder
        self.board = board
        self.executor = executor
        self.at_once = at_once
        self.jobs: list[Job] = []
        self.outcomes: list[Outcome] = []

    def make(self, config: StudyConfig, looks: Looks, task: Task) -> str:
        """Make runs and take looks until every look is taken, all networks are decided, or the time is over; or, where
        runs are only read, until one is missing.

        Return why no more looks were taken, in a sentence; an empty string for a fixed number of seeds.
        """
        counts = looks.rules.plan.counts if looks.stops else looks.rules.plan.counts[-1:]
        limit = 60 * config.minutes
        with ExitStack() as stack:
            executor = None if self.executor is None else _EnteredOnce(self.executor, stack)
            for count in counts:
                jobs = self._missing(count, looks.open)
                spent = self._seconds()
                expected = len(jobs) * spent / max(1, len(self.outcomes))
                if limit and self.outcomes and spent + expected > limit:
                    return (
                        f"No more looks were taken: training took {duration(spent)}, and the look at {count} seeds "
                        f"would have taken about {duration(expected)} more, over the {duration(limit)} allowed."
                    )
                self._run(jobs, executor)
                step = max(10.0**-task.headline.digits, self.scores(task).step)
                if len(self.outcomes) < len(self.jobs):
                    looks.wait(self.outcomes, step)
                    return f"The look at {count} seeds was not taken: runs are missing." if looks.stops else ""
                looks.take(count, [o for o in self.outcomes if o.seed < self.recipe.seed + count], step)
                self.folder.looked(count)
                if looks.stops and not looks.open:
                    return f"All networks were decided with {counted(count, 'seed')}."
        return f"Not all networks were decided with {counted(counts[-1], 'seed')}." if looks.stops else ""

    def finished(self) -> dict[str, dict[int, Path]]:
        """Return the folders of the finished runs, by arm and seed."""
        good = {(o.arm, o.seed) for o in self.outcomes if not o.error}
        folders: dict[str, dict[int, Path]] = {}
        for job in sorted(self.jobs, key=lambda job: job.seed):
            if (job.arm, job.seed) in good:
                folders.setdefault(job.arm, {})[job.seed] = job.folder
        return folders

    def scores(self, task: Task) -> ImageScores:
        """Return the scores of single images that the finished runs kept."""
        return ImageScores(self.finished(), task.headline.scale)

    def _run(self, jobs: Sequence[Job], executor: Executor | None) -> None:
        self.jobs += jobs
        self.board.expect(jobs)
        there: Iterable[Outcome | None] = map(read_job, jobs)
        if executor is not None:
            there = run_jobs(jobs, executor, self.board.refresh)
        for outcome in filter(None, there):
            self.outcomes.append(outcome)
            self.board.add(outcome)

    def _missing(self, count: int, open_: Sequence[str]) -> list[Job]:
        """Return the jobs of the first ``count`` seeds that were not submitted yet: of plain and the open arms."""
        there = {(job.arm, job.seed) for job in self.jobs}
        wanted = [arm for arm in self.arms if arm.name == "plain" or arm.name in open_]
        jobs = [self._job(arm, seed) for seed in range(count) for arm in wanted]
        return [job for job in jobs if (job.arm, job.seed) not in there]

    def _job(self, arm: Arm, seed: int) -> Job:
        recipe = replace(self.recipe, seed=self.recipe.seed + seed)
        folder = self.folder.path / arm.slug / f"seed-{recipe.seed}"
        return Job(arm.name, recipe.seed, arm.task, arm.config, recipe, folder)

    def _seconds(self) -> float:
        """Return how long training has taken so far."""
        return sum(o.seconds for o in self.outcomes) / self.at_once


class _EnteredOnce:
    """An executor that is entered for the first look that has runs to make, and left with ``stack``, after the last."""

    def __init__(self, executor: Executor, stack: ExitStack) -> None:
        self.executor = executor
        self.stack = stack
        self.entered = False
        self.submit = executor.submit

    def __enter__(self) -> "_EnteredOnce":
        if not self.entered:
            self.stack.enter_context(self.executor)
            self.entered = True
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        return None
