"""At how many seeds a study looks at its results, and what each look costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..errors import WhatwhereError, need
from .statistics import FEWEST, Numbers

ALPHA = 0.05
"""The chance of a false verdict that a whole study may have."""
LOOKS = 3
"""How often a study that runs until it is decided looks at its results, at most."""
_DRAWS = 1_000_000


@dataclass(frozen=True)
class Plan:
    r"""The numbers of seeds at which a study's results are looked at, and the chance ``alpha`` of an error over all.

    Whoever tests at every look and stops at the first p ≤ 0.05 is wrong more often than that. Here all looks have the
    same level c (Pocock), such that :math:`P(\min_k p_k \le c) = \alpha` for Student's tests of nested samples of
    normally distributed differences. As seeds are few, c is that of the t statistics themselves, found from a million
    simulated studies, not from their normal limit.

    References: Pocock, Biometrika 64 (1977); Maurer and Bretz, Statistics in Biopharmaceutical Research 5 (2013), for
    Holm's steps at each look.

    Example:
        >>> plan = Plan((4, 8, 12))
        >>> round(plan.level, 3)
        0.02
        >>> Plan((6,)).level
        0.05

    Raises:
        WhatwhereError: no look, or numbers that do not grow.
    """

    counts: tuple[int, ...]
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        if not self.counts or list(self.counts) != sorted(set(self.counts)) or self.counts[0] < 1:
            raise WhatwhereError(f"the numbers of seeds at which a study is looked at must grow, got {self.counts}")

    @property
    def level(self) -> float:
        """The level of each look for a single comparison."""
        return self.nominal(self.alpha)

    def nominal(self, alpha: float) -> float:
        """Return the level of each look that keeps the chance of an error over all looks at ``alpha``.

        Example:
            >>> Plan((4, 8, 12)).nominal(0.05 / 4) < 0.05 / 4
            True
        """
        tested = self._tested
        if len(tested) < 2:
            return alpha
        drawn = _smallest(tested)
        return max(float(drawn[int(alpha * (len(drawn) - 1))]), alpha / len(tested))

    def correct(self, p: float) -> float:
        """Return a p-value corrected for the looks: the chance of one as small at any of them.

        Example:
            >>> plan = Plan((4, 8, 12))
            >>> round(plan.correct(plan.level), 3)
            0.05
        """
        tested = self._tested
        if len(tested) < 2:
            return p
        drawn = _smallest(tested)
        share = float(np.searchsorted(drawn, p, side="right")) / len(drawn)
        return max(p, min(share, len(tested) * p, 1.0))

    @property
    def _tested(self) -> tuple[int, ...]:
        return tuple(count for count in self.counts if count >= FEWEST)


def plan_looks(most: int, before: Sequence[int] = ()) -> tuple[int, ...]:
    """Return the numbers of seeds at which a study of at most ``most`` seeds looks at its results: thirds of it, at
    least three, and those at which it was looked at ``before``.

    Example:
        >>> plan_looks(12)
        (4, 8, 12)
        >>> plan_looks(12, before=[6])
        (6, 8, 12)
    """
    thirds = {max(FEWEST, -(-most * k // LOOKS)) for k in range(1, LOOKS + 1)}
    latest = max(before, default=0)
    return tuple(sorted(set(before) | {count for count in thirds if count > latest}))


@lru_cache(maxsize=16)
def _smallest(counts: tuple[int, ...]) -> Numbers:
    """Return the smallest two-sided p-value of each simulated study without a difference, sorted."""
    stdtr = need("scipy.special", "train").stdtr
    generator = np.random.default_rng(0)
    parts = []
    for _ in range(20):
        draws = _DRAWS // 20
        total, squares, smallest, before = np.zeros(draws), np.zeros(draws), np.ones(draws), 0
        for n in counts:
            new = generator.standard_normal((draws, n - before))
            total, squares, before = total + new.sum(1), squares + (new**2).sum(1), n
            deviation = np.sqrt((squares - total**2 / n) / (n - 1))
            smallest = np.minimum(smallest, 2 * stdtr(n - 1, -np.abs(total) / n / (deviation / n**0.5)))
        parts.append(smallest)
    return np.sort(np.concatenate(parts))
