"""What a study found: one row an arm, as a table, JSON and CSV."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..cost.measure import Cost
from ..tables import markdown_table
from ..tasks import Headline, Metric
from ..training import Recipe
from .jobs import Outcome
from .statistics import Interval, interval, paired, verdict

COST_TITLES = ("parameters", "multiply-adds", "step ms", "inference ms", "memory MB")


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
        verdict: the difference in words.
        failed: seeds whose training broke off because the loss was not finite any more.
        cost: parameters, multiply-adds, times, memory.
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
    verdict: str
    failed: list[int]
    cost: Cost
    evidence: dict[str, Interval]
    curves: list[list[float]] = field(repr=False)
    losses: list[list[float]] = field(repr=False)


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

    @property
    def titles(self) -> list[str]:
        """The titles of the table's columns."""
        evidence = [metric.column for metric in self.columns]
        return ["network", self.headline.column, "difference to plain", "verdict", *evidence, *COST_TITLES]

    def cells(self, row: Row) -> list[str]:
        """Return a row of the table as text, a cell a title."""
        cost, plain = row.cost, self.rows[0].cost
        runs = len(row.failed) + len(row.values)
        return [
            row.arm,
            plus_minus(row.headline, self.headline),
            plus_minus(row.difference, self.headline, sign=True),
            row.verdict + (f" ({len(row.failed)} of {runs} runs diverged)" if row.failed else ""),
            *(plus_minus(row.evidence.get(metric.key), metric) for metric in self.columns),
            f"{cost.parameters:,}",
            f"{cost.multiply_adds / 1e6:.2f} M",
            _ratio(cost.step.median, plain.step.median),
            _ratio(cost.inference.median, plain.inference.median),
            f"{cost.memory / 1e6:.1f}",
        ]

    def to_json(self) -> str:
        """Return everything as JSON (what is not a number is null)."""
        return json.dumps(_clean(asdict(self)), indent=2, allow_nan=False, default=str) + "\n"

    def to_markdown(self) -> str:
        """Return the table, the remarks and how it was made, as they stand in a document."""
        table = markdown_table(self.titles, [self.cells(row) for row in self.rows])
        machine = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        return "\n\n".join([f"`{self.command}`", self.data, table, *self.remarks, f"Measured on: {machine}."]) + "\n"

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
        keys = dict.fromkeys(key for other in self.rows for key in other.evidence)
        for name, value in (found | {key: row.evidence.get(key) for key in keys}).items():
            for part in ("mean", "low", "high"):
                number = getattr(value, part) if value else math.nan
                flat[f"{name}_{part}"] = "" if math.isnan(number) else number
        cost = row.cost
        flat |= {"verdict": row.verdict, "parameters": cost.parameters, "multiply_adds": cost.multiply_adds}
        flat |= {"memory_bytes": cost.memory}
        for name, timing in (("step", cost.step), ("inference", cost.inference)):
            flat |= {f"{name}_ms": timing.median, f"{name}_ms_q1": timing.low, f"{name}_ms_q3": timing.high}
        return flat | {"batch_size": cost.batch_size, "device": cost.device}


def make_row(
    arm: str,
    note: str,
    outcomes: Sequence[Outcome],
    plain: Sequence[Outcome],
    cost: Cost,
    evidence: Mapping[str, Sequence[float]],
    *,
    higher_is_better: bool = True,
) -> Row:
    """Put an arm's row together; a seed that failed on either side is left out of the difference."""
    good = {o.seed: o.curve[-1] for o in outcomes if not o.error}
    base = {o.seed: o.curve[-1] for o in plain if not o.error}
    pairs = sorted(good.keys() & base.keys())
    is_plain = arm == "plain"
    difference = None
    if pairs and not is_plain:
        difference = paired([good[s] for s in pairs], [base[s] for s in pairs])
    words = verdict(difference, higher_is_better=higher_is_better) if difference else "no finished pair of runs"
    ordered = sorted((o for o in outcomes if not o.error), key=lambda o: o.seed)
    measured = {key: [v for v in values if not math.isnan(v)] for key, values in evidence.items()}
    return Row(
        arm=arm,
        note=note,
        headline=interval(list(good.values())) if good else None,
        values=[o.curve[-1] for o in ordered],
        seeds=[o.seed for o in ordered],
        difference=difference,
        verdict="" if is_plain else words,
        failed=sorted(o.seed for o in outcomes if o.error),
        cost=cost,
        evidence={key: interval(values) for key, values in measured.items() if values},
        curves=[o.curve for o in ordered],
        losses=[o.losses for o in ordered],
    )


def plus_minus(value: Interval | None, metric: Metric, *, sign: bool = False) -> str:
    """Return ``84.0 ± 1.2``, or ``–`` where there is nothing."""
    if value is None:
        return "–"
    mean = metric.number(value.mean, sign=sign)
    return mean if math.isnan(value.half) else f"{mean} ± {metric.number(value.half)}"


def describe_recipe(recipe: Recipe) -> str:
    """Return the recipe in a line."""
    return (
        f"{recipe.epochs} epochs, batch {recipe.batch_size}, {recipe.optimizer}, learning rate {recipe.lr:g}, "
        f"weight decay {recipe.weight_decay:g}"
    )


def _ratio(value: float, plain: float) -> str:
    return f"{value:.1f} (×{value / plain:.2f})"


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
