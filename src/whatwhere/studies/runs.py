"""The runs of a study, look by look: which are missing, and what is known after them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..tasks import Task
from ..training import Recipe
from ..training.progress import duration
from .arms import Arm
from .config import StudyConfig
from .crossed import ImageScores
from .folder import StudyFolder
from .jobs import Executor, Job, Outcome, run_jobs
from .sequence import Looks
from .show import LiveTable


class Runs:
    """Makes the runs that the looks of a study need.

    Attributes:
        outcomes: what the runs came to, so far.
    """

    def __init__(
        self, arms: Sequence[Arm], recipe: Recipe, folder: StudyFolder, board: LiveTable, executor: Executor
    ) -> None:
        self.arms = arms
        self.recipe = recipe
        self.folder = folder
        self.board = board
        self.executor = executor
        self.jobs: list[Job] = []
        self.outcomes: list[Outcome] = []

    def make(self, config: StudyConfig, looks: Looks, task: Task) -> str:
        """Make runs and take looks until every look is taken, all networks are decided, or the time is over.

        Return why no more looks were taken, in a sentence; an empty string for a fixed number of seeds.
        """
        counts = looks.rules.plan.counts if looks.stops else looks.rules.plan.counts[-1:]
        limit = 60 * config.minutes
        with self.executor:
            for count in counts:
                jobs = self._missing(count, looks.open)
                spent = self._seconds()
                expected = len(jobs) * spent / max(1, len(self.outcomes))
                if limit and self.outcomes and spent + expected > limit:
                    return (
                        f"No more looks were taken: training took {duration(spent)}, and the look at {count} seeds "
                        f"would have taken about {duration(expected)} more, over the {duration(limit)} allowed."
                    )
                self._run(jobs)
                headline = task.headline
                step = max(10.0**-headline.digits, self.scores(task).step)
                looks.take(count, [o for o in self.outcomes if o.seed < self.recipe.seed + count], step)
                self.folder.looked(count)
                if looks.stops and not looks.open:
                    return f"All networks were decided with {count} seeds."
        return f"Not all networks were decided with {counts[-1]} seeds." if looks.stops else ""

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

    def _run(self, jobs: Sequence[Job]) -> None:
        self.jobs += jobs
        self.board.expect(jobs)
        for outcome in run_jobs(jobs, _Entered(self.executor), self.board.refresh):
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
        """Return how long training has taken so far, with as many runs at a time as there are workers."""
        return sum(o.seconds for o in self.outcomes) / self.folder.workers


class _Entered:
    """An executor that is entered already, so that it is entered once for all looks of a study."""

    def __init__(self, executor: Executor) -> None:
        self.submit = executor.submit

    def __enter__(self) -> "_Entered":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        return None
