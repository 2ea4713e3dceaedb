"""What may be said of each network of a study: better, worse, the same, or how many seeds that would take."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..tasks import Headline
from ..training.progress import duration
from .plan import Plan
from .power import MOST, seeds_needed
from .statistics import FEWEST, Numbers, holm, p_different, p_same, spread

Kind = Literal["better", "worse", "same", "undecided", "none"]


@dataclass(frozen=True)
class Rules:
    """How verdicts are made; fixed before the first run.

    Attributes:
        headline: the metric that is compared.
        plan: at how many seeds, with which chance of an error.
        margin: differences within ±margin count as the same, in the unit of the headline; 0: nothing does.
        step: the smallest change that a difference can show, see :func:`whatwhere.studies.interval`.
    """

    headline: Headline
    plan: Plan
    margin: float = 0.0
    step: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What a study says of one network beside the plain one.

    Attributes:
        kind: ``better``, ``worse``, ``same`` (within ±margin), ``undecided`` (not enough seeds) or ``none`` (fewer than
            three).
        words: the same in words, with how many seeds it would take.
        p: of a difference of zero, corrected for several networks and several looks.
        p_same: of a difference outside ±margin, corrected in the same way; 1 without a margin.
        within: whether the difference is shown to lie within ±margin; it may be better or worse as well.
        more: how many more seeds would show what is seen, with a chance of 80 %; None where it is decided, and where
            200 would not.
    """

    kind: Kind
    words: str
    p: float = 1.0
    p_same: float = 1.0
    within: bool = False
    more: int | None = None

    @property
    def decided(self) -> bool:
        """Whether more seeds are not needed."""
        return self.kind in ("better", "worse", "same")

    def __str__(self) -> str:
        return self.words


def decide(
    differences: Mapping[str, Numbers],
    rules: Rules,
    decided: Mapping[str, Verdict] | None = None,
    seconds: Mapping[str, float] | None = None,
) -> dict[str, Verdict]:
    """Give a verdict on every network at one look.

    “better” and “worse” come from Student's paired tests with Holm's correction over the networks, “the same” from two
    one-sided tests each with Holm's correction too: with ``plan.alpha`` = 0.05 a study has at most a chance of 5 % of
    any false “better” or “worse”, and at most 5 % of any false “the same”. p-values are corrected for the looks of the
    plan before Holm's steps.

    Args:
        differences: by network, differences to the plain one, a value a seed.
        rules: how.
        decided: verdicts of earlier looks that stand; their networks take no part in the correction any more where
            they were found better or worse.
        seconds: by network, how long one more seed takes.

    Example:
        >>> import numpy as np
        >>> rules = Rules(Headline("top1", "accuracy", unit="%", difference_unit="points"), Plan((4,)), margin=2.0)
        >>> found = decide({"se": np.array([0.3, -0.2, 0.1, 0.1]), "cbam": np.array([6.2, 5.8, 6.5, 6.0])}, rules)
        >>> found["se"].words, found["cbam"].words
        ('the same within ±2.0 points', 'better')
        >>> decide({"se": np.array([0.9, -2.2, 5.8, 3.6])}, rules, seconds={"se": 30.0})["se"].words
        'not enough seeds: about 21 more, some 10 min'
    """
    decided = decided or {}
    sign = 1 if rules.headline.higher_is_better else -1
    open_ = {name: values for name, values in differences.items() if name not in decided}
    different = len(open_) + sum(verdict.kind == "same" for verdict in decided.values())
    same = len(open_) + sum(verdict.kind != "same" and not verdict.within for verdict in decided.values())
    correct = rules.plan.correct
    p = holm({name: correct(p_different(values, rules.step)) for name, values in open_.items()}, different)
    q = holm({name: correct(p_same(values, rules.margin, rules.step)) for name, values in open_.items()}, same)
    found = dict(decided)
    alpha = rules.plan.alpha
    left = max(1, sum(p[name] > alpha and q[name] > alpha for name in open_))
    for name, values in open_.items():
        within = q[name] <= alpha
        if p[name] <= alpha:
            kind: Kind = "better" if sign * values.mean() > 0 else "worse"
            words = f"{kind}, by less than {margin_text(rules)}" if within else kind
            found[name] = Verdict(kind, words, p[name], q[name], within)
        elif within:
            found[name] = Verdict("same", f"the same within ±{margin_text(rules)}", p[name], q[name], within)
        elif len(values) < FEWEST:
            found[name] = Verdict("none", _too_few(len(values)))
        else:
            found[name] = _undecided(values, rules, p[name], q[name], left, (seconds or {}).get(name))
    return found


def margin_text(rules: Rules) -> str:
    """Return the margin with its unit."""
    headline = rules.headline
    return f"{headline.number(rules.margin)} {headline.difference_unit or headline.unit}".strip()


def _undecided(values: Numbers, rules: Rules, p: float, q: float, left: int, seconds: float | None) -> Verdict:
    """Return how many seeds would show the difference, or the sameness, if it is what it seems."""
    alpha = rules.plan.nominal(rules.plan.alpha / left)
    needed = seeds_needed(float(values.mean()), spread(values, rules.step), alpha, rules.margin)
    if needed is None:
        return Verdict("undecided", f"not enough seeds: more than {MOST} would be needed", p, q)
    more = max(1, needed - len(values))
    time = f", some {_roughly(more * seconds)}" if seconds else ""
    return Verdict("undecided", f"not enough seeds: about {more} more{time}", p, q, more=more)


def _roughly(seconds: float) -> str:
    """Return a time in one unit."""
    if seconds < 60:
        return duration(seconds)
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _too_few(seeds: int) -> str:
    if seeds == 0:
        return "no finished pair of runs"
    return f"{'one seed' if seeds == 1 else f'{seeds} seeds'}: no verdict below {FEWEST}"
