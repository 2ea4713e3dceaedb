"""Means with intervals, and what may be said of a difference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import WhatwhereError, need


@dataclass(frozen=True)
class Interval:
    """A mean of ``n`` values with its confidence interval (nan where one value says nothing of the spread)."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half the width: mean ± half."""
        return (self.high - self.low) / 2


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    r"""Return the mean with Student's interval :math:`\bar v \pm t_{n-1} \, s / \sqrt{n}`.

    Args:
        values: one number a seed; at least one.
        level: probability that intervals made in this way hold the true mean, if the values are normally distributed.

    Raises:
        WhatwhereError: no values.

    Example:
        >>> found = interval([1.0, 2.0, 3.0])
        >>> f"{found.mean:.2f}, {found.low:.2f} to {found.high:.2f}"
        '2.00, -0.48 to 4.48'
    """
    v = np.asarray(values, dtype=np.float64)
    if v.size == 0:
        raise WhatwhereError("an interval needs at least one value")
    mean = float(v.mean())
    if v.size == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    t = float(need("scipy.stats", "train").t.ppf((1 + level) / 2, v.size - 1))
    half = t * float(v.std(ddof=1)) / v.size**0.5
    return Interval(mean, mean - half, mean + half, int(v.size))


def paired(values: Sequence[float], baseline: Sequence[float], level: float = 0.95) -> Interval:
    """Return the interval of the differences, pair by pair (the same seed on both sides).

    Pairing takes out what a seed does to both sides alike (data order, first weights), so the interval is narrower than
    that of two separate means where seeds matter.

    Raises:
        WhatwhereError: the two sides have different numbers of values.

    Example:
        >>> paired([3.0, 4.0, 5.0], [1.0, 2.0, 3.0]).mean
        2.0
    """
    if len(values) != len(baseline):
        raise WhatwhereError(f"pairs need as many values on both sides, got {len(values)} and {len(baseline)}")
    return interval([a - b for a, b in zip(values, baseline, strict=True)], level)


def verdict(difference: Interval, *, higher_is_better: bool = True) -> str:
    """Return in words what an interval of differences allows: better, worse, no difference found, or no verdict.

    Example:
        >>> verdict(paired([3.0, 4.0, 5.0], [1.0, 2.0, 3.5]))
        'better'
    """
    if difference.n < 2:
        return "one seed: no verdict"
    if difference.low > 0:
        return "better" if higher_is_better else "worse"
    if difference.high < 0:
        return "worse" if higher_is_better else "better"
    return "no difference found"
