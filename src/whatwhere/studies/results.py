"""What a study found: one row an arm, as a table in Markdown and LaTeX, JSON and CSV."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..cost.measure import Cost
from ..tables import html_table, latex_table, latex_text, markdown_table
from ..tasks import Headline, Metric
from ..training import Recipe
from .jobs import Outcome
from .sequence import Analysis
from .statistics import Interval, interval, saved_by_pairing
from .verdicts import Rules, Verdict

COUNTED, TIMED = ("parameters", "multiply-adds"), ("step ms", "inference ms", "memory MB")
COST_TITLES = (*COUNTED, *TIMED)
IMAGES_TITLE = "with other images"


@dataclass(frozen=True)
class Row:
    """What one arm came to. Values of the headline metric and of the evidence are in the units of their columns.

    Attributes:
        arm: its name.
        note: what it is.
        headline: the headline metric on the test images after the last epoch, mean over seeds (None where no run was
            finished).
        values: the same, one a seed, ordered by seed.
        seeds: the seeds that these are of.
        difference: to the plain network, paired by seed (None for the plain network itself).
        differences: the same, one a seed that both have finished.
        images: the difference with its interval for other seeds and other test images; None where the task gives no
            scores of images.
        verdict: the difference in words, and what it is made from (None for the plain network itself).
        failed: seeds whose training broke off because the loss was not finite any more.
        cost: parameters, multiply-adds, times, memory; times are nan where costs were left out.
        evidence: what the task measures besides, by the keys of its columns, of those of its evidence and of its
            chance level; keys without a value are left out.
        curves: the headline metric after each epoch, one list a seed.
        losses: training loss of each epoch, one list a seed.
    """

    arm: str
    note: str
    headline: Interval | None
    values: list[float]
    seeds: list[int]
    difference: Interval | None
    differences: list[float]
    images: Interval | None
    verdict: Verdict | None
    failed: list[int]
    cost: Cost
    evidence: dict[str, Interval]
    curves: list[list[float]] = field(repr=False)
    losses: list[list[float]] = field(repr=False)

    @property
    def timed(self) -> bool:
        """Whether time and memory were measured."""
        return not math.isnan(self.cost.step.median)


@dataclass(frozen=True)
class Results:
    """A whole study.

    Attributes:
        headline: the metric that is compared.
        columns: the task's other columns and its evidence, as far as at least one row has them.
        rows: one an arm, the plain network first.
        remarks: what a reader must know.
        command: what to type to make it again.
        machine: what it was measured on.
        config: all options.
        data: what the images are, in words.
        seconds: time spent on training, all runs together.
        rules: how verdicts were made.
        looks: the looks at the results, the last one last; its verdicts are those of the rows, unless runs of the next
            one are missing.
        ended: why no more looks were taken, in a sentence; empty where the number of seeds was fixed.
        methods: what was done, as it may stand in a paper.
    """

    headline: Headline
    columns: list[Metric]
    rows: list[Row]
    remarks: list[str]
    command: str
    machine: dict[str, str]
    config: dict[str, Any]
    data: str
    seconds: float
    rules: Rules
    looks: list[Analysis] = field(default_factory=list)
    ended: str = ""
    methods: str = ""

    @property
    def compared(self) -> list[Row]:
        """The rows beside the plain network's."""
        return self.rows[1:]

    @property
    def titles(self) -> list[str]:
        """The titles of the table's columns."""
        evidence = [metric.column for metric in self.columns]
        images = [IMAGES_TITLE] if self.has_images else []
        costs = COST_TITLES if any(row.timed for row in self.rows) else COUNTED
        return ["network", self.headline.column, "difference to plain", *images, "verdict", *evidence, *costs]

    @property
    def percent(self) -> str:
        """The level of the intervals: ``95 %``, or more where there are several looks."""
        return f"{100 * (1 - self.rules.plan.level):.3g} %"

    @property
    def has_images(self) -> bool:
        """Whether there is an interval for other test images."""
        return any(row.images for row in self.rows)

    @property
    def saved(self) -> float:
        """The share of the variance of the differences that pairing by seed takes out, see
        :func:`whatwhere.studies.saved_by_pairing`."""
        plain = dict(zip(self.rows[0].seeds, self.rows[0].values, strict=True))
        sides = []
        for row in self.compared:
            both = [(value, plain[seed]) for seed, value in zip(row.seeds, row.values, strict=True) if seed in plain]
            sides.append(([a for a, _ in both], [b for _, b in both]))
        return saved_by_pairing(sides)

    def cells(self, row: Row) -> list[str]:
        """Return a row of the table as text, a cell a title."""
        cost, plain = row.cost, self.rows[0].cost
        runs = len(row.failed) + len(row.values)
        images = "–" if row.images is None else f"± {half_text(row.images, self.headline)}"
        diverged = f" ({len(row.failed)} of {runs} runs diverged)" if row.failed else ""
        timed = [
            _ratio(cost.step.median, plain.step.median),
            _ratio(cost.inference.median, plain.inference.median),
            f"{cost.memory / 1e6:.1f}",
        ]
        return [
            row.arm,
            plus_minus(row.headline, self.headline),
            plus_minus(row.difference, self.headline, sign=True),
            *([images] if self.has_images else []),
            ("" if row.verdict is None else row.verdict.words) + diverged,
            *(plus_minus(row.evidence.get(metric.key), metric) for metric in self.columns),
            f"{cost.parameters:,}",
            f"{cost.multiply_adds / 1e6:.2f} M",
            *(timed if any(row.timed for row in self.rows) else []),
        ]

    def to_json(self) -> str:
        """Return everything as JSON (what is not a number is null)."""
        found = asdict(self) | {"saved_by_pairing": self.saved}
        del found["rules"]["headline"]
        found["rules"]["plan"]["level"] = self.rules.plan.level
        return json.dumps(_clean(found), indent=2, allow_nan=False, default=str) + "\n"

    def to_markdown(self) -> str:
        """Return the table, the remarks and how it was made, as they stand in a document."""
        table = markdown_table(self.titles, [self.cells(row) for row in self.rows])
        machine = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        what = [] if self.methods else [self.data]  # the methods begin with the data
        parts = [f"`{self.command}`", *what, table, *self.remarks, self.methods, f"Measured on: {machine}."]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _repr_html_(self) -> str:
        left = (0, self.titles.index("verdict"))
        rows = [self.cells(row) for row in self.rows]
        return html_table(self.titles, rows, left, below=[self.data, *self.remarks])

    def to_latex(self) -> str:
        """Return the table in LaTeX, and below it what was done as a paragraph."""
        left = (0, self.titles.index("verdict"))
        caption = f"{self.data} Mean over seeds with {self.percent} intervals; differences are paired by seed."
        table = latex_table(self.titles, [self.cells(row) for row in self.rows], caption, left)
        return f"{table}\n\n{latex_text(self.methods)}\n"

    def to_csv(self) -> str:
        """Return a line an arm, numbers unrounded."""
        rows = [self._flat(row) for row in self.rows]
        file = io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue()

    def _flat(self, row: Row) -> dict[str, Any]:
        flat: dict[str, Any] = {"arm": row.arm, "note": row.note, "seeds": len(row.values), "failed": len(row.failed)}
        found = {self.headline.title.replace(" ", "_"): row.headline, "difference": row.difference}
        found |= {"with_other_images": row.images} if self.has_images else {}
        keys = dict.fromkeys(key for other in self.rows for key in other.evidence)
        for name, value in (found | {key: row.evidence.get(key) for key in keys}).items():
            for part in ("mean", "low", "high"):
                flat[f"{name}_{part}"] = _cell(getattr(value, part) if value else math.nan)
        verdict = row.verdict or Verdict("none", "")
        flat |= {"verdict": verdict.words, "verdict_kind": verdict.kind if row.verdict else ""}
        flat |= {"p": verdict.p if row.verdict else "", "p_same": verdict.p_same if row.verdict else ""}
        cost = row.cost
        flat |= {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds}
        flat |= {"memory_bytes": cost.memory if row.timed else ""}
        for name, timing in (("step", cost.step), ("inference", cost.inference)):
            times = {f"{name}_ms": timing.median, f"{name}_ms_q1": timing.low, f"{name}_ms_q3": timing.high}
            flat |= {key: _cell(value) for key, value in times.items()}
        return flat | {"batch_size": cost.batch_size, "device": cost.device}


def make_row(
    arm: str,
    note: str,
    outcomes: Sequence[Outcome],
    cost: Cost,
    evidence: Mapping[str, Sequence[float]],
    *,
    differences: Sequence[float] = (),
    verdict: Verdict | None = None,
    images: Interval | None = None,
    level: float = 0.95,
    step: float = 0.0,
) -> Row:
    """Put an arm's row together from its runs, its differences to the plain network and its verdict."""
    ordered = sorted((o for o in outcomes if not o.error), key=lambda o: o.seed)
    measured = {key: [v for v in values if not math.isnan(v)] for key, values in evidence.items()}
    values = [o.curve[-1] for o in ordered]
    return Row(
        arm=arm,
        note=note,
        headline=interval(values, level, step) if values else None,
        values=values,
        seeds=[o.seed for o in ordered],
        difference=interval(differences, level, step) if len(differences) else None,
        differences=[float(value) for value in differences],
        images=images,
        verdict=verdict,
        failed=sorted(o.seed for o in outcomes if o.error),
        cost=cost,
        evidence={key: interval(values, level) for key, values in measured.items() if values},
        curves=[o.curve for o in ordered],
        losses=[o.losses for o in ordered],
    )


def plus_minus(value: Interval | None, metric: Metric, *, sign: bool = False) -> str:
    """Return ``84.0 ± 1.2``, or ``–`` where there is nothing."""
    if value is None:
        return "–"
    mean = metric.number(value.mean, sign=sign)
    return mean if math.isnan(value.half) else f"{mean} ± {half_text(value, metric)}"


def half_text(value: Interval, metric: Metric) -> str:
    """Return half the width of an interval, never as zero.

    Example:
        >>> half_text(Interval(1.0, 0.97, 1.03, 9), Metric("top1", "accuracy"))
        '0.03'
    """
    text = metric.number(value.half)
    return f"{value.half:.1g}" if float(text) == 0 else text


def describe_recipe(recipe: Recipe) -> str:
    """Return the recipe in a line.

    Example:
        >>> describe_recipe(Recipe(ema=0.99))
        'adamw, 5 epochs, batch 32, learning rate 0.003 (cosine), weight decay 0.05, weights averaged (0.99)'
    """
    averaged = f", weights averaged ({recipe.ema:g})" if recipe.ema else ""
    mixed = f", {recipe.amp}" if recipe.amp != "no" else ""
    return (
        f"{recipe.optimizer}, {recipe.epochs} epochs, batch {recipe.batch_size}, learning rate {recipe.lr:g} "
        f"({recipe.schedule}), weight decay {recipe.weight_decay:g}{averaged}{mixed}"
    )


def _cell(value: float) -> float | str:
    return "" if math.isnan(value) else value


def _ratio(value: float, plain: float) -> str:
    return f"{value:.1f} (×{value / plain:.2f})"


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
