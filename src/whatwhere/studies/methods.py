"""What a study did and how its numbers are read, in sentences that are made from what was done."""

import math
from collections.abc import Sequence

from ..tasks import Task
from .plan import Plan
from .power import POWER
from .results import IMAGES_TITLE, Results
from .statistics import FEWEST
from .verdicts import margin_text

LITTLE = 0.1
"""Shares of variance below this count as next to nothing."""


def describe_methods(results: Results, seeds: int, unplanned: Sequence[int], *, fixed: bool = True) -> str:
    """Return the paragraph for a paper.

    Args:
        results: the study, without this paragraph.
        seeds: the most seeds that were asked for.
        unplanned: the earlier looks that no plan had foreseen.
        fixed: whether the study was begun with this plan.
    """
    rules, networks = results.rules, len(results.compared)
    plan, title = rules.plan, results.headline.title
    runs = [len(row.values) + len(row.failed) for row in results.rows]
    times = f"{runs[0]} times" if min(runs) == max(runs) else f"{min(runs)} to {max(runs)} times"
    parts = [
        f"{results.data} Each of {networks + 1} networks was trained {times}, each time with another seed; a seed gave "
        "all networks the same order of images, the same augmentation and the same first weights in the layers and "
        f"channels that they have in common. The {title} is that of the last epoch on the test images; no epoch was "
        "chosen by it.",
        "Differences to the plain network were taken seed by seed, with Student's "
        f"{results.percent} interval of their mean; the standard deviation over seeds counted as at least "
        f"{rules.step / 6**0.5:.2g}, that of rounding.",
    ]
    tests = f"Student's paired t-test, two-sided, corrected for {networks} networks by Holm's steps"
    if networks == 1:
        tests = "Student's paired t-test, two-sided"
    parts.append(
        f"A network is called better or worse if {tests}{_looks_clause(plan)}, gives p ≤ {plan.alpha:g}; "
        f"with fewer than {FEWEST} seeds there is no verdict."
    )
    if rules.margin > 0:
        parts.append(
            f"It is called the same within ±{margin_text(rules)} if two one-sided t-tests (TOST), corrected in the "
            f"same way, give p ≤ {plan.alpha:g} each."
        )
    parts.append(
        f"Where neither is so, the number of seeds is given that would show what was measured with a power of "
        f"{100 * POWER:.0f} % (noncentral t)."
    )
    parts += _looks(results, seeds, unplanned, "run" if fixed else "verdict")
    if results.has_images:
        parts.append(
            "The second interval holds for other seeds and other test images: both are crossed random effects on the "
            "scores of single images (Dorfman, Berbaum and Metz 1992, degrees of freedom of Hillis 2007)."
        )
    if any(row.timed for row in results.rows):
        parts.append("Times are medians of calls made in turn in one process, with nothing else running.")
    versions = ", ".join(f"{key} {results.machine[key]}" for key in ("whatwhere", "torch") if key in results.machine)
    return " ".join(parts) + (f" Made with {versions}." if versions else "")


def reading(task: Task, results: Results) -> list[str]:
    """Return how to read the table: what there is in it."""
    headline, plan = results.headline, results.rules.plan
    networks = len(results.compared)
    parts = [
        f"{headline.heading} is that of the last epoch on the test images, mean over seeds with Student's "
        f"{results.percent} interval. The difference to plain is paired: the same seed gives the same order of images "
        "and the same first weights.",
        chance(plan, networks),
        "“not enough seeds” says neither that there is a difference nor that there is none. The number of seeds is "
        f"what would show the difference that was measured, with a chance of {100 * POWER:.0f} %.",
    ]
    if results.has_images:
        parts.append(
            f"“{IMAGES_TITLE}” is the half width of the interval for other seeds and other test images too. The first "
            "interval and the verdict are about these test images."
        )
    saved = results.saved
    if not math.isnan(saved):
        parts.append(_pairing(saved))
    if any(row.timed for row in results.rows):
        parts.append(
            "Times are medians of calls made in turn in one process, with nothing else running; memory is the most "
            "that a training step held at one time."
        )
    if not headline.higher_is_better:
        parts.append(f"A lower {headline.title} is better: “better” stands for a difference below zero.")
    arms = {row.arm for row in results.rows}
    if "wider" in arms:
        parts.append(
            "wider is the plain network with more channels, until it has at least the parameters of the most expensive "
            "attention: what the same cost buys elsewhere."
        )
    if "narrower" in arms:
        parts.append(
            "narrower is the plain network with fewer channels, until it has the multiply-adds of the one with ghost "
            "convolutions: what the same saving costs elsewhere."
        )
    if task.evidence and results.columns and task.evidence.reading:
        parts.append(task.evidence.reading)
    return parts


def chance(plan: Plan, networks: int) -> str:
    """Return how often chance alone gives a false interval and a false verdict.

    Example:
        >>> chance(Plan((6,)), 4).split(". ")[0]
        'One interval misses the true difference in about one study in 20; of 4, at least one does in about one in 5'
    """
    level = plan.level
    several = 1 - (1 - level) ** networks
    first = f"One interval misses the true difference in about one study in {1 / level:.0f}"
    more = f"; of {networks}, at least one does in about one in {1 / several:.0f}" if networks > 1 else ""
    return (
        f"{first}{more}. The verdicts are corrected for that: a study calls any network better or worse by chance in "
        f"at most one in {1 / plan.alpha:.0f}."
    )


def _pairing(saved: float) -> str:
    share = f"{100 * saved:.0f} %"
    if saved < LITTLE:
        return (
            f"Pairing by seed takes out {share} of the variance of the differences, next to nothing: what a seed gives "
            "to all networks alike matters little here."
        )
    return f"Pairing by seed takes out {share} of the variance of the differences."


def _looks_clause(plan: Plan) -> str:
    if len(plan.counts) == 1:
        return ""
    return f" and for {len(plan.counts)} looks at {listed(plan.counts)} seeds (level {plan.level:.4f} at each look)"


def _looks(results: Results, seeds: int, unplanned: Sequence[int], first: str) -> list[str]:
    plan = results.rules.plan
    if len(plan.counts) == 1:
        return [f"The number of seeds, {seeds}, was fixed before the first {first}."]
    level = (
        f"The same level at each look, {plan.level:.4f} for a single comparison, keeps the error over all looks at "
        f"{100 * plan.alpha:g} % (Pocock's design, with the level found by simulating Student's t at these numbers of "
        "seeds)."
    )
    stopped = ["A network that was decided got no more seeds.", results.ended] if results.ended else []
    if unplanned:
        return [
            f"The study was given more seeds after it had been looked at with {listed(unplanned)}. {level}",
            *stopped,
        ]
    return [f"The looks at {listed(plan.counts)} seeds were fixed before the first {first}. {level}", *stopped]


def listed(numbers: Sequence[int]) -> str:
    """Return numbers in words.

    Example:
        >>> listed([4, 8, 12])
        '4, 8 and 12'
    """
    words = [str(number) for number in numbers]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
