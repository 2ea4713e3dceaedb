"""How many seeds show what: the power of the paired test and of the test of being the same."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ..errors import need
from .statistics import FEWEST, Numbers

POWER = 0.8
"""The chance with which a number of seeds is to show what is there."""
MOST = 200
"""More seeds than this are not counted out."""


def power_different(mean: float, spread: float, seeds: int, alpha: float = 0.05) -> float:
    r"""Return the chance that Student's paired test finds a true difference:
    :math:`P(|T'_{n-1}(\delta\sqrt n/\sigma)| > t_{n-1,1-\alpha/2})` with the noncentral t distribution, computed as the
    mean of the normal chance over the spreads that may be measured.

    Args:
        mean: the true difference δ.
        spread: standard deviation σ of the differences over seeds.
        seeds: their number n, at least 2.
        alpha: the level of the two-sided test.

    Reference: Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), chapter 2.

    Example:
        >>> round(power_different(1.0, 1.0, 10), 3)
        0.803
    """
    shift = abs(mean) * seeds**0.5 / spread
    bound = _bound(seeds, alpha / 2)
    phi = need("scipy.special", "train").ndtr
    return float((phi(shift - bound) + phi(-shift - bound)).mean())


def power_same(mean: float, spread: float, seeds: int, margin: float, alpha: float = 0.05) -> float:
    """Return the chance that two one-sided tests show a true difference to lie within ±margin.

    The arguments are those of :func:`power_different`; ``alpha`` is that of each one-sided test. Reference: Phillips,
    Journal of Pharmacokinetics and Biopharmaceutics 18 (1990).

    Example:
        >>> round(power_same(0.0, 1.0, 12, margin=1.0), 2)
        0.89
    """
    error = spread / seeds**0.5
    bound = _bound(seeds, alpha)
    phi = need("scipy.special", "train").ndtr
    inside = phi((margin - mean) / error - bound) - phi(bound - (margin + mean) / error)
    return float(inside.clip(0.0, 1.0).mean())


@lru_cache(maxsize=4096)
def _bound(seeds: int, tail: float) -> Numbers:
    """Return the t quantile of a tail times s / σ, for 1000 equally likely measured spreads s."""
    stats, degrees = need("scipy.stats", "train"), seeds - 1
    chances = (np.arange(1000) + 0.5) / 1000
    found: Numbers = stats.t.ppf(1 - tail, degrees) * (stats.chi2.ppf(chances, degrees) / degrees) ** 0.5
    return found


def seeds_needed(mean: float, spread: float, alpha: float, margin: float = 0.0, power: float = POWER) -> int | None:
    """Return how many seeds show the difference, or that it lies within ±margin, if it is what it seems; None where
    more than 200 do not.

    Example:
        >>> seeds_needed(1.0, 1.0, alpha=0.05), seeds_needed(0.0, 1.0, alpha=0.05)
        (10, None)
    """

    def shown(seeds: int) -> bool:
        same = power_same(mean, spread, seeds, margin, alpha) if margin > 0 else 0.0
        return max(power_different(mean, spread, seeds, alpha), same) >= power

    return _first(shown, FEWEST, MOST)


def smallest_visible(spread: float, seeds: int, alpha: float, power: float = POWER) -> float:
    """Return the true difference that this number of seeds shows with the chance ``power``.

    Example:
        >>> round(smallest_visible(1.0, 10, alpha=0.05), 2)
        1.0
    """
    reached: Callable[[float], float] = lambda mean: power_different(mean, spread, seeds, alpha) - power  # noqa: E731
    high = spread
    while reached(high) < 0:
        high *= 2
    return float(need("scipy.optimize", "train").brentq(reached, 0.0, high, xtol=1e-4 * spread))


def _first(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """Return the first number from ``low`` to ``high`` for which ``holds`` is true; once true it stays so."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
