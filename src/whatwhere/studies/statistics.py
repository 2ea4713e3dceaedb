"""Means with intervals, paired differences, and the tests that verdicts are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WhatwhereError, need

Numbers = NDArray[np.float64]

FEWEST = 3
"""Seeds below which there is no verdict: two differences may be equal by chance."""


@dataclass(frozen=True)
class Interval:
    """A mean of ``n`` values with its confidence interval (nan where the values say nothing of the spread)."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half the width: mean ± half."""
        return (self.high - self.low) / 2


def interval(values: Sequence[float], level: float = 0.95, step: float = 0.0) -> Interval:
    r"""Return the mean with Student's interval :math:`\bar v \pm t_{n-1} \, s / \sqrt{n}`.

    Its width is never zero: s counts as at least step / √6, the standard deviation that the difference of two rounded
    values has from rounding alone; equal values without a ``step`` have no interval (nan), for they may be equal by
    chance.

    Args:
        values: one number a seed; at least one.
        level: probability that intervals made in this way hold the true mean, if the values are normally distributed.
        step: the smallest change that the values can show, such as one test image more that is right.

    Raises:
        WhatwhereError: no values.

    Example:
        >>> found = interval([1.0, 2.0, 3.0])
        >>> f"{found.mean:.2f}, {found.low:.2f} to {found.high:.2f}"
        '2.00, -0.48 to 4.48'
        >>> round(interval([1.0, 1.0, 1.0], step=0.1).half, 3)
        0.101
    """
    v = np.asarray(values, dtype=np.float64)
    if v.size == 0:
        raise WhatwhereError("an interval needs at least one value")
    mean = float(v.mean())
    s = spread(v, step)
    if np.isnan(s):
        return Interval(mean, float("nan"), float("nan"), int(v.size))
    half = t_quantile((1 + level) / 2, v.size - 1) * s / v.size**0.5
    return Interval(mean, mean - half, mean + half, int(v.size))


def paired(values: Sequence[float], baseline: Sequence[float], level: float = 0.95, step: float = 0.0) -> Interval:
    """Return the interval of the differences, pair by pair (the same seed on both sides).

    Pairing takes out what a seed does to both sides alike (data order, first weights), so the interval is narrower than
    that of two separate means where seeds matter. ``level`` and ``step`` as in :func:`interval`.

    Raises:
        WhatwhereError: the two sides have different numbers of values.

    Example:
        >>> paired([3.0, 4.0, 5.0], [1.0, 2.0, 3.5]).mean.__round__(2)
        1.83
    """
    return interval(list(differences(values, baseline)), level, step)


def differences(values: Sequence[float], baseline: Sequence[float]) -> Numbers:
    """Return the differences pair by pair; what is equal but for the rounding of floats is equal.

    Raises:
        WhatwhereError: the two sides have different numbers of values.

    Example:
        >>> differences([80.3, 77.0], [81.0, 77.7]).tolist()
        [-0.7, -0.7]
    """
    if len(values) != len(baseline):
        raise WhatwhereError(f"pairs need as many values on both sides, got {len(values)} and {len(baseline)}")
    a, b = np.asarray(values, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    largest = float(max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)))
    digits = 12 - int(np.ceil(np.log10(largest))) if largest > 0 else 12
    return np.round(a - b, min(digits, 300))


def spread(values: Numbers, step: float = 0.0) -> float:
    """Return the standard deviation over seeds, at least step / √6; nan where it is not known.

    Example:
        >>> spread(np.array([1.0, 3.0]))
        1.4142135623730951
    """
    if len(values) < 2:
        return float("nan")
    s = max(float(values.std(ddof=1)), step / 6**0.5)
    return s if s > 1e-12 * float(np.abs(values).max()) else float("nan")


def t_quantile(chance: float, degrees: float) -> float:
    """Return the quantile of Student's t distribution.

    Example:
        >>> round(t_quantile(0.975, 3), 3)
        3.182
    """
    return float(need("scipy.special", "train").stdtrit(degrees, chance))


def t_tail(t: float, degrees: float) -> float:
    """Return the chance that Student's t is above ``t``.

    Example:
        >>> round(t_tail(3.182, 3), 4)
        0.025
    """
    return float(need("scipy.special", "train").stdtr(degrees, -t))


def p_different(values: Numbers, step: float = 0.0) -> float:
    """Return the two-sided p-value of Student's test of a mean difference of zero (1 below three seeds).

    Example:
        >>> round(p_different(np.array([2.0, 2.1, 1.9])), 4)
        0.0008
    """
    s = spread(values, step)
    if len(values) < FEWEST or np.isnan(s):
        return 1.0
    t = float(values.mean()) / (s / len(values) ** 0.5)
    return 2 * t_tail(abs(t), len(values) - 1)


def p_same(values: Numbers, margin: float, step: float = 0.0) -> float:
    """Return the p-value of a mean difference outside ±margin: two one-sided tests (TOST), the larger p of the two.

    Below it, the interval of level 1 - 2p lies within ±margin. 1 below three seeds, or without a margin.
    Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987).

    Example:
        >>> round(p_same(np.array([0.1, -0.1, 0.0, 0.1]), margin=0.5), 4)
        0.0011
    """
    s = spread(values, step)
    if len(values) < FEWEST or np.isnan(s) or margin <= 0:
        return 1.0
    t = (margin - abs(float(values.mean()))) / (s / len(values) ** 0.5)
    return t_tail(t, len(values) - 1)


def holm(p: Mapping[str, float], total: int | None = None) -> dict[str, float]:
    """Return p-values corrected for several comparisons by Holm's steps: rejecting those up to α keeps the chance of
    any false one at α at most.

    Args:
        p: p-values by name.
        total: how many hypotheses there are, where some are not in ``p``; they count as not rejected.

    Reference: Holm, Scandinavian Journal of Statistics 6 (1979).

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    left = len(p) if total is None else total
    corrected, highest = {}, 0.0
    for name, value in sorted(p.items(), key=lambda item: item[1]):
        highest = max(highest, min(1.0, value * left))
        corrected[name] = highest
        left -= 1
    return {name: corrected[name] for name in p}


def saved_by_pairing(sides: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    r"""Return the share of the variance of a difference that pairing by seed takes out, over several arms:
    :math:`1 - \sum s^2_{a-b} / \sum (s^2_a + s^2_b)`. 0: seeds share nothing; below 0: pairing made it worse.

    Args:
        sides: of each arm its values and the plain network's, pair by pair; those with fewer than two pairs are left
            out (nan if none is left).

    Example:
        >>> round(saved_by_pairing([([1.0, 2.0, 3.0], [0.5, 1.8, 2.6])]), 2)
        0.99
    """
    both: Any = [(np.asarray(a, float), np.asarray(b, float)) for a, b in sides if len(a) > 1]
    apart = sum(a.var(ddof=1) + b.var(ddof=1) for a, b in both)
    return float(1 - sum((a - b).var(ddof=1) for a, b in both) / apart) if apart else float("nan")
