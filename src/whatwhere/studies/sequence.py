"""The looks that a study takes at its results, one after the other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .jobs import Outcome
from .statistics import Interval, Numbers, differences, interval
from .verdicts import Rules, Verdict, decide

MISSING = "no verdict while runs are missing"


@dataclass(frozen=True)
class Analysis:
    """One look at the results.

    Attributes:
        seeds: how many seeds the networks that were still open had been given.
        differences: by network, the difference to the plain one, paired by seed, with its interval; None where no pair
            of runs was finished.
        verdicts: by network.
    """

    seeds: int
    differences: dict[str, Interval | None]
    verdicts: dict[str, Verdict]


@dataclass
class Looks:
    """Takes the looks of a plan and keeps which networks go on.

    The same runs give the same verdicts, so a study that was stopped takes its looks again from the first.

    Args:
        arms: the networks beside the plain one.
        rules: how verdicts are made.
        stops: whether a network that is decided gets no more seeds.
        at_once: runs made at a time, for the time that more seeds take.

    Attributes:
        taken: the looks so far.
        values: by network, its differences to the plain one, a value a seed.
        waiting: whether runs of the next look are missing.
    """

    arms: Sequence[str]
    rules: Rules
    stops: bool
    at_once: int = 1
    taken: list[Analysis] = field(default_factory=list)
    values: dict[str, Numbers] = field(default_factory=dict)
    waiting: bool = False

    @property
    def open(self) -> list[str]:
        """The networks that go on."""
        if not self.stops or not self.taken:
            return list(self.arms)
        return [arm for arm in self.arms if not self.taken[-1].verdicts[arm].decided]

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """What may be said now. While runs are missing, nothing of networks that go on: a verdict at any other number
        of seeds than the plan's would be one look more."""
        found = dict(self.taken[-1].verdicts) if self.taken else {}
        return found | (dict.fromkeys(self.open, Verdict("none", MISSING)) if self.waiting else {})

    def take(self, seeds: int, outcomes: Iterable[Outcome], step: float) -> Analysis:
        """Look at the results of the first ``seeds`` seeds; ``step`` as in :func:`whatwhere.studies.interval`."""
        runs = list(outcomes)
        self.rules = replace(self.rules, step=step)
        earlier = self.taken[-1].verdicts if self.stops and self.taken else {}
        decided = {arm: verdict for arm, verdict in earlier.items() if verdict.decided}
        for arm in self.open:
            self.values[arm] = pairs(runs, arm)[1]
        seconds = {arm: self._seconds(runs, arm) for arm in self.arms}
        verdicts = decide(self.values, self.rules, decided, seconds)
        level = 1 - self.rules.plan.level
        found = {arm: interval(list(d), level, step) if len(d) else None for arm, d in self.values.items()}
        self.taken.append(Analysis(seeds, found, {arm: verdicts[arm] for arm in self.arms}))
        return self.taken[-1]

    def wait(self, outcomes: Iterable[Outcome], step: float) -> None:
        """Take in the finished runs of a look that others are still missing from: differences, but no verdicts."""
        runs = list(outcomes)
        self.waiting, self.rules = True, replace(self.rules, step=step)
        for arm in self.open:
            self.values[arm] = pairs(runs, arm)[1]

    def _seconds(self, runs: Sequence[Outcome], arm: str) -> float:
        """Return how long one more seed of this network and of the plain one takes."""
        times = [[o.seconds for o in runs if o.arm == name and not o.error] for name in (arm, "plain")]
        return sum(float(np.mean(some)) for some in times if some) / self.at_once


def pairs(runs: Sequence[Outcome], arm: str) -> tuple[list[int], Numbers]:
    """Return the seeds that a network and the plain one have finished, and the differences after the last epoch."""
    done = {name: {o.seed: o.curve[-1] for o in runs if o.arm == name and not o.error} for name in (arm, "plain")}
    seeds = sorted(done[arm].keys() & done["plain"].keys())
    return seeds, differences([done[arm][s] for s in seeds], [done["plain"][s] for s in seeds])
