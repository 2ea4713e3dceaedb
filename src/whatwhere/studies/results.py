"""What a study found: one row an arm, as a table, JSON and CSV."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..cost.measure import Cost
from ..tables import markdown_table
from ..training import Recipe
from .evidence import Focus
from .runner import Outcome
from .statistics import Interval, interval, paired, verdict


@dataclass(frozen=True)
class Row:
    """What one arm came to.

    Attributes:
        arm: its name.
        note: what it is.
        accuracy: percent on the test images after the last epoch, mean over seeds.
        values: the same, one a seed, ordered by seed.
        seeds: the seeds that these are of.
        difference: to the plain network, in points, paired by seed (None for the plain network itself).
        verdict: the difference in words.
        failed: seeds whose training broke off because the loss was not finite any more.
        cost: parameters, multiply-adds, times, memory.
        grad_cam: share of Grad-CAM inside the objects, in percent (None where there are no boxes).
        gate: share of the spatial gates inside the objects, in percent (None without boxes or spatial gates).
        area: share of the area that the objects have, in percent: the chance level of both.
        curves: accuracy after each epoch, one list a seed.
        losses: training loss of each epoch, one list a seed.
    """

    arm: str
    note: str
    accuracy: Interval | None
    values: list[float]
    seeds: list[int]
    difference: Interval | None
    verdict: str
    failed: list[int]
    cost: Cost
    grad_cam: Interval | None
    gate: Interval | None
    area: float | None
    curves: list[list[float]] = field(repr=False)
    losses: list[list[float]] = field(repr=False)


@dataclass(frozen=True)
class Results:
    """A whole study.

    Attributes:
        rows: one an arm, the plain network first.
        remarks: what a reader must know.
        command: what to type to make it again.
        machine: what it was measured on.
        config: all options.
        data: what the images are, in words.
        seconds: wall-clock time of the whole study, over all its sittings.
    """

    rows: list[Row]
    remarks: list[str]
    command: str
    machine: dict[str, str]
    config: dict[str, Any]
    data: str
    seconds: float

    def to_json(self) -> str:
        """Return everything as JSON (what is not a number is null)."""
        return json.dumps(_clean(asdict(self)), indent=2, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """Return the table, the remarks and how it was made, as they stand in a document."""
        table = markdown_table(header(self.rows), [cells(row, self.rows) for row in self.rows])
        machine = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        return "\n\n".join([f"`{self.command}`", self.data, table, *self.remarks, f"Measured on: {machine}."]) + "\n"

    def to_csv(self) -> str:
        """Return a line an arm, numbers unrounded."""
        rows = [_flat(row) for row in self.rows]
        file = io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue()


def make_row(
    arm: str, note: str, outcomes: Sequence[Outcome], plain: Sequence[Outcome], cost: Cost, focus: Sequence[Focus]
) -> Row:
    """Put an arm's row together; a seed that failed on either side is left out of the difference."""
    good = {o.seed: o.curve[-1] for o in outcomes if not o.error}
    base = {o.seed: o.curve[-1] for o in plain if not o.error}
    pairs = sorted(good.keys() & base.keys())
    is_plain = arm == "plain"
    difference = None
    if pairs and not is_plain:
        difference = paired([good[s] for s in pairs], [base[s] for s in pairs])
    failed = [o.seed for o in outcomes if o.error]
    gates = [100 * f.gate for f in focus if not math.isnan(f.gate)]
    ordered = sorted((o for o in outcomes if not o.error), key=lambda o: o.seed)
    return Row(
        arm=arm,
        note=note,
        accuracy=interval(list(good.values())) if good else None,
        values=[o.curve[-1] for o in ordered],
        seeds=[o.seed for o in ordered],
        difference=difference,
        verdict="" if is_plain else verdict(difference) if difference else "no finished pair of runs",
        failed=sorted(failed),
        cost=cost,
        grad_cam=interval([100 * f.grad_cam for f in focus]) if focus else None,
        gate=interval(gates) if gates else None,
        area=100 * focus[0].area if focus else None,
        curves=[o.curve for o in ordered],
        losses=[o.losses for o in ordered],
    )


GRAD_CAM_TITLE, GATE_TITLE = "Grad-CAM on object %", "gate on object %"
COST_TITLES = ("parameters", "multiply-adds", "step ms", "inference ms", "memory MB")


def header(rows: Sequence[Row]) -> list[str]:
    """Return the table's column titles for these rows; columns nobody has are left out."""
    titles = ["network", "accuracy %", "difference to plain", "verdict"]
    if any(row.grad_cam for row in rows):
        titles.append(GRAD_CAM_TITLE)
    if any(row.gate for row in rows):
        titles.append(GATE_TITLE)
    return [*titles, *COST_TITLES]


def cells(row: Row, rows: Sequence[Row]) -> list[str]:
    """Return a row of the table as text, in the order of :func:`header`."""
    cost, plain = row.cost, rows[0].cost
    runs = len(row.failed) + len(row.values)
    found = {
        "network": row.arm,
        "accuracy %": plus_minus(row.accuracy),
        "difference to plain": plus_minus(row.difference, sign=True),
        "verdict": row.verdict + (f" ({len(row.failed)} of {runs} runs diverged)" if row.failed else ""),
        GRAD_CAM_TITLE: plus_minus(row.grad_cam),
        GATE_TITLE: plus_minus(row.gate),
        "parameters": f"{cost.parameters:,}",
        "multiply-adds": f"{cost.multiply_adds / 1e6:.2f} M",
        "step ms": _ratio(cost.step.median, plain.step.median),
        "inference ms": _ratio(cost.inference.median, plain.inference.median),
        "memory MB": f"{cost.memory / 1e6:.1f}",
    }
    return [found[title] for title in header(rows)]


def plus_minus(value: Interval | None, sign: bool = False) -> str:
    """Return ``84.0 ± 1.2``, or ``–`` where there is nothing."""
    if value is None:
        return "–"
    mean = f"{value.mean:+.1f}" if sign else f"{value.mean:.1f}"
    return mean if math.isnan(value.half) else f"{mean} ± {value.half:.1f}"


def describe_recipe(recipe: Recipe) -> str:
    """Return the recipe in a line."""
    return f"{recipe.epochs} epochs, batch {recipe.batch_size}, {recipe.optimizer}, learning rate {recipe.lr:g}, weight decay {recipe.weight_decay:g}"


def _ratio(value: float, plain: float) -> str:
    return f"{value:.1f} (×{value / plain:.2f})"


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {"arm": row.arm, "note": row.note, "seeds": len(row.values), "failed": len(row.failed)}
    for name in ("accuracy", "difference", "grad_cam", "gate"):
        value: Interval | None = getattr(row, name)
        for part in ("mean", "low", "high"):
            number = getattr(value, part) if value else math.nan
            flat[f"{name}_{part}"] = "" if math.isnan(number) else number
    flat |= {"verdict": row.verdict, "area": "" if row.area is None else row.area}
    cost = row.cost
    flat |= {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds, "memory_bytes": cost.memory}
    for name, timing in (("step", cost.step), ("inference", cost.inference)):
        flat |= {f"{name}_ms": timing.median, f"{name}_ms_q1": timing.low, f"{name}_ms_q3": timing.high}
    return flat | {"batch_size": cost.batch_size, "device": cost.device}


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
