"""The live table of a study."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .results import plus_minus
from .runner import Job, Outcome
from .statistics import interval, paired

T = TypeVar("T")


class LiveTable:
    """Shows how far each arm is while a study runs: a live table on a terminal, otherwise a line for every finished run."""

    def __init__(self, arms: Sequence[str], jobs: Sequence[Job], epochs: int, progress: bool) -> None:
        self.arms = arms
        self.jobs = jobs
        self.epochs = epochs
        self.console = Console(stderr=True, quiet=not progress)
        self.outcomes: list[Outcome] = []
        self.start = time.monotonic()
        self.at_start = self._epochs_done()
        self.status = ""
        self.live = Live(console=self.console, refresh_per_second=2) if self.console.is_terminal else None

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
            what = outcome.error or f"{outcome.curve[-1]:.1f} % in {outcome.seconds:.0f} s"
            count = f"[{len(self.outcomes)}/{len(self.jobs)}]"
            self.console.print(f"{count} {outcome.arm}, seed {outcome.seed}: {what}", markup=False, highlight=False)

    def during(self, what: str, work: Callable[[Callable[[], None]], T]) -> T:
        """Show ``what`` while ``work`` runs; it may call what it is given to say that it goes on."""
        self.status = what
        if not self.live:
            self.console.print(what, markup=False, highlight=False)
        self.refresh()
        result = work(self.refresh)
        self.status = ""
        return result

    def _view(self) -> RenderableType:
        table = Table(title="Is attention worth its cost?", title_justify="left")
        for title in ("network", "runs", "now", "accuracy %", "difference to plain"):
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
                plus_minus(interval(values) if values else None),
                plus_minus(difference, sign=True),
            )
        return Group(table, Text(self.status or self._left(), style="dim"))

    def _now(self, arm: str) -> str:
        finished = {(o.arm, o.seed) for o in self.outcomes}
        rows = [
            (j.seed, rows)
            for j in self.jobs
            if j.arm == arm and (arm, j.seed) not in finished and (rows := _epochs(j.folder))
        ]
        return ", ".join(f"seed {seed} epoch {len(r)}/{self.epochs}" for seed, r in rows[:2])

    def _epochs_done(self) -> int:
        return sum(len(_epochs(job.folder)) for job in self.jobs)

    def _left(self) -> str:
        done, total = self._epochs_done(), self.epochs * len(self.jobs)
        new, seconds = done - self.at_start, time.monotonic() - self.start
        if not new:
            return f"{done} of {total} epochs"
        minutes, rest = divmod(round(seconds / new * (total - done)), 60)
        return f"{done} of {total} epochs, about {minutes} min {rest:02d} s of training left"


def _epochs(folder: Path) -> list[float]:
    """Return the accuracies written so far in a run's folder, without waiting for anybody."""
    file = folder / "metrics.jsonl"
    found = []
    try:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row.get("kind") == "epoch":
                found.append(float(row["epoch"]))
    except (OSError, ValueError):
        pass
    return found
