"""The live table of a study."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..tasks import Headline
from ..training.progress import duration
from .jobs import Job, Outcome, epochs_done
from .results import plus_minus
from .statistics import interval, paired

T = TypeVar("T")

SILENT = 10.0
"""Seconds after which a line says how far a stage is, where there is no live table."""


class LiveTable:
    """How far each arm of a study is: a live table on a terminal, otherwise a line for every finished run."""

    def __init__(self, headline: Headline, arms: Sequence[str], epochs: int, progress: bool) -> None:
        self.headline = headline
        self.arms = arms
        self.jobs: list[Job] = []
        self.epochs = epochs
        self.console = Console(stderr=True, quiet=not progress)
        self.outcomes: list[Outcome] = []
        self.start = time.monotonic()
        self.at_start = 0
        self.status = ""
        shown = progress and self.console.is_terminal  # in a notebook a live table draws even where it is quiet
        self.live = Live(console=self.console, refresh_per_second=2) if shown else None

    def __enter__(self) -> "LiveTable":
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.update(self._view(), refresh=True)
            self.live.stop()

    def refresh(self) -> None:
        """Draw again what is known now."""
        if self.live:
            self.live.update(self._view())

    def add(self, outcome: Outcome) -> None:
        """Take in a finished run."""
        self.outcomes.append(outcome)
        if not self.live:
            what = outcome.error or f"{self.headline.with_unit(outcome.curve[-1])} in {duration(outcome.seconds)}"
            count = f"[{len(self.outcomes)}/{len(self.jobs)}]"
            self.console.print(f"{count} {outcome.arm}, seed {outcome.seed}: {what}", markup=False, highlight=False)

    def expect(self, jobs: Sequence[Job]) -> None:
        """Take in runs that will be made."""
        self.jobs += jobs
        self.at_start += sum(epochs_done(job) for job in jobs)

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False, highlight=False)

    def during(self, what: str, work: Callable[[Callable[[str], None]], T]) -> T:
        """Show ``what`` while ``work`` runs; it says how far it is by calling what it is given."""
        said = time.monotonic()

        def tick(far: str) -> None:
            nonlocal said
            self.status = f"{what}: {far}"
            self.refresh()
            if not self.live and time.monotonic() - said > SILENT:
                self.say(self.status)
                said = time.monotonic()

        self.status = what
        if not self.live:
            self.say(what)
        self.refresh()
        result = work(tick)
        self.status = ""
        return result

    def _view(self) -> RenderableType:
        table = Table(title="Is attention worth its cost?", title_justify="left")
        for title in ("network", "runs", "now", self.headline.column, "difference to plain"):
            table.add_column(title, justify="left" if title == "network" else "right")
        scores = {(o.arm, o.seed): o.curve[-1] for o in self.outcomes if not o.error}
        for arm in self.arms:
            seeds = [job.seed for job in self.jobs if job.arm == arm]
            done = [o for o in self.outcomes if o.arm == arm]
            values = [scores[arm, s] for s in seeds if (arm, s) in scores]
            pairs = [s for s in seeds if (arm, s) in scores and ("plain", s) in scores]
            difference = None
            if pairs and arm != "plain":
                difference = paired([scores[arm, s] for s in pairs], [scores["plain", s] for s in pairs])
            table.add_row(
                Text(arm),
                f"{len(done)}/{len(seeds)}",
                self._now(arm),
                plus_minus(interval(values) if values else None, self.headline),
                plus_minus(difference, self.headline, sign=True),
            )
        return Group(table, Text(self.status or self._left(), style="dim"))

    def _now(self, arm: str) -> str:
        finished = {(o.arm, o.seed) for o in self.outcomes}
        begun = [
            f"seed {job.seed} epoch {done}/{self.epochs}"
            for job in self.jobs
            if job.arm == arm and (arm, job.seed) not in finished and (done := epochs_done(job))
        ]
        return ", ".join(begun[:2])

    def _epochs_done(self) -> int:
        return sum(epochs_done(job) for job in self.jobs)

    def _left(self) -> str:
        done, total = self._epochs_done(), self.epochs * len(self.jobs)
        new, seconds = done - self.at_start, time.monotonic() - self.start
        if not new:
            return f"{done} of {total} epochs"
        return f"{done} of {total} epochs, about {duration(seconds / new * (total - done))} of training left"
