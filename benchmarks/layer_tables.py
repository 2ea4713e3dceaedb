"""The tables and the summary of the layers' benchmark."""

from collections.abc import Iterator, Sequence
from typing import Any

from .report import Table, geometric_mean, number, remarks, time_cell

LARGE = 28
"""Maps from this side on count as large: there a layer is bound by memory and can be held against a copy."""

_RATIOS = [
    (f"timm-{kind}{how}", f"ours-{kind}{ours}")
    for kind in ("cbam", "se")
    for how, ours in (("", ""), ("+compile", ""), ("+compile", "+compile"))
]
_RATIOS += [(f"ours-{kind}+reference", f"ours-{kind}") for kind in ("cbam", "se")]
_OVER_COPY = [
    (name, "copy") for name in ("ours-cbam", "ours-se", "timm-cbam", "timm-se", "timm-cbam+compile", "timm-se+compile")
]

Rows = list[dict[str, Any]]


def make_summary(times: Rows, saved: Rows) -> Rows:
    """Return geometric means of ratios over all maps and layouts at batch 8, or the batch nearest to it."""
    batch = min({row["batch"] for row in times}, key=lambda b: abs(b - 8))
    found = []
    for measure in dict.fromkeys(row["measure"] for row in times):
        here = [row for row in times if row["batch"] == batch and row["measure"] == measure]
        found += [_mean(f"{over} ÷ {under}, {measure}", here, over, under, batch) for over, under in _RATIOS]
        large = [row for row in here if min(row["height"], row["width"]) >= LARGE]
        if measure == "forward":
            words = f"forward, maps of at least {LARGE}×{LARGE}"
            found += [_mean(f"{over} ÷ copy, {words}", large, over, "copy", batch) for over, _ in _OVER_COPY]
    for name in dict.fromkeys(row["contender"] for row in saved):
        counted = [row["of_the_map"] for row in saved if row["contender"] == name and row["of_the_map"]]
        found.append(_statement(f"kept for backward ÷ map, {name}", counted, None))
    return [row for row in found if row["cases"]]


def make_tables(times: Rows, saved: Rows, summary: Rows) -> list[Table]:
    """Return the tables: times and ratios of every measure, batch and layout; kept bytes; the summary."""
    tables = []
    for key in dict.fromkeys((row["measure"], row["batch"], row["layout"]) for row in times):
        rows = [row for row in times if (row["measure"], row["batch"], row["layout"]) == key]
        tables.append(_times("{}, batch {}, {}, {dtype}, backend {backend}".format(*key, **rows[0]), rows))
    if saved:
        tables.append(_kept(saved))
    words = [
        [row["what"], number(row["geometric_mean"]), number(row["lowest"]), number(row["highest"]), _over(row)]
        for row in summary
    ]
    tables.append(Table("Summary", ["ratio", "geometric mean", "lowest", "highest", "over"], words))
    return tables


def _times(title: str, rows: Rows) -> Table:
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    cells = {(row["contender"], row["shape"]): row for row in rows}
    lines = []
    for name in dict.fromkeys(row["contender"] for row in rows):
        lines.append([f"{name} (ms)", *(time_cell(cells.get((name, shape))) for shape in shapes)])
    for over, under in (*_RATIOS, *_OVER_COPY):
        ratios = {row["shape"]: ratio for row, ratio in _pairs(rows, over, under)}
        if ratios:
            lines.append([f"{over} ÷ {under}", *(number(ratios[s]) if s in ratios else "" for s in shapes)])
    return Table(title, ["contender", *shapes], lines, remarks(rows))


def _kept(saved: Rows) -> Table:
    """Bytes kept ÷ bytes of the map: the most over batches and layouts."""
    shapes = list(dict.fromkeys(row["shape"] for row in saved))
    lines = []
    for name in dict.fromkeys(row["contender"] for row in saved):
        line = [name]
        for shape in shapes:
            here = [
                r["of_the_map"] for r in saved if (r["contender"], r["shape"]) == (name, shape) and r["failure"] is None
            ]
            line.append(f"{max(here):.3f}" if here else "failed")
        lines.append(line)
    why = [f"{row['contender']} {row['failure']}" for row in saved if row["failure"] is not None]
    title = "Kept for the backward pass ÷ bytes of the map (the most over batches and layouts)"
    return Table(title, ["contender", *shapes], lines, why)


def _pairs(rows: Rows, over: str, under: str) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield the rows of ``over`` with the ratio of their median to that of ``under`` on the same map."""
    below = {(row["shape"], row["layout"]): row["median_ms"] for row in rows if row["contender"] == under}
    for row in rows:
        base = below.get((row["shape"], row["layout"]))
        if row["contender"] == over and row["median_ms"] is not None and base is not None:
            yield row, row["median_ms"] / base


def _mean(what: str, rows: Rows, over: str, under: str, batch: int) -> dict[str, Any]:
    return _statement(what, [ratio for _, ratio in _pairs(rows, over, under)], batch)


def _statement(what: str, values: Sequence[float], batch: int | None) -> dict[str, Any]:
    return {
        "what": what,
        "geometric_mean": geometric_mean(values) if values else None,
        "lowest": min(values, default=None),
        "highest": max(values, default=None),
        "cases": len(values),
        "batch": batch,
    }


def _over(row: dict[str, Any]) -> str:
    return f"{row['cases']} cases" + (f", batch {row['batch']}" if row["batch"] else ", all batches")
