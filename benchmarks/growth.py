"""How the time of a layer grows with batch, channels and positions, one at a time."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

import whatwhere as ww

from .checking import Check, build_calls, forget_compiled
from .contenders import layer_contenders
from .layer_calls import MEASURES, Map, Measure, expected_results, layer_call
from .report import Report, Table, remarks, time_cell, timing_row
from .setting import MemoryFormat, Setting, run


@dataclass(frozen=True)
class Growth(Setting):
    """Time whatwhere's and timm's layers while one of N, C and H·W grows and the other two stay.

    All sizes of one factor and all contenders take turns together. The slope is that of log time over log size by least
    squares, with its standard error: 1 is linear; at small sizes it is below 1, because of the fixed cost of a call.

    Try:
        python -m benchmarks.growth --quick
        python -m benchmarks.growth --allocator tuned --seconds 30
    """

    layouts: tuple[MemoryFormat, ...] = ("nchw", "channels_last")
    """Memory layouts of maps and weights."""
    batch: int = 8
    """N while another grows."""
    channels: int = 256
    """C while another grows."""
    side: int = 28
    """H and W while another grows."""
    batches: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    """N as it grows."""
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    """C as it grows."""
    sides: tuple[int, ...] = (14, 20, 28, 40, 56, 80)
    """H and W as they grow."""

    def series(self, layout: MemoryFormat) -> dict[str, list[tuple[int, Map]]]:
        """Return by factor its sizes and the maps."""
        n, c, s = (1, 16, 7) if self.quick else (self.batch, self.channels, self.side)
        ns, cs, sides = ((1, 2, 4), (8, 16, 32), (7, 10, 14)) if self.quick else (self.batches, self.widths, self.sides)

        def describe(n: int, c: int, s: int) -> Map:
            return Map(n, c, s, s, layout, torch.float32, self.where)

        return {
            "N": [(value, describe(value, c, s)) for value in ns],
            "C": [(value, describe(n, value, s)) for value in cs],
            "H·W": [(value * value, describe(n, c, value)) for value in sides],
        }


def fit_slope(sizes: Sequence[float], times: Sequence[float]) -> tuple[float, float | None]:
    """Return the slope of log time over log size, and its standard error (None for fewer than three points)."""
    x, y = np.log(sizes), np.log(times)
    dx = x - x.mean()
    slope = float(dx @ y / (dx @ dx))
    if len(x) < 3:
        return slope, None
    rest = y - y.mean() - slope * dx
    return slope, float(np.sqrt(rest @ rest / (len(x) - 2) / (dx @ dx)))


def measure(setting: Growth) -> None:
    """Measure, print, write."""
    known = layer_contenders()
    eager = [name for name, c in known.items() if not c.compile and not c.reference]
    names = setting.choose(known) if setting.contenders else eager
    report = Report("growth", setting)
    times: list[dict[str, Any]] = []
    slopes: list[dict[str, Any]] = []
    cases = [(m, lay, f) for m in MEASURES for lay in setting.layouts for f in setting.series(lay)]
    for index, (kind, layout, factor) in enumerate(cases):
        rows = _time(setting, kind, layout, factor, names)
        times += rows
        slopes += [_slope(rows, name) for name in names]
        report.say(f"[{index + 1}/{len(cases)}] {kind}, {layout}, {factor}")
        data = {"times": times, "slopes": slopes}
        report.save(_tables(times, slopes), data, complete=index + 1 == len(cases))
    report.show(_tables(times, slopes))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run(Growth, "benchmarks.growth", arguments, measure)


def _time(setting: Growth, kind: Measure, layout: MemoryFormat, factor: str, names: list[str]) -> list[dict[str, Any]]:
    forget_compiled()
    known = layer_contenders()
    chosen = [known[name] for name in names]
    makers, expected, where = {}, {}, {}
    for size, what in setting.series(layout)[factor]:
        x, g = what.draw(0), what.draw(1)
        results = expected_results(what, kind, chosen, x, g)
        for contender in chosen:
            key = f"{contender.name} at {size}"
            makers[key] = partial(layer_call, contender, what, kind, x, g)
            where[key] = {"measure": kind, "factor": factor, "size": size, **what.row(), "contender": contender.name}
            where[key]["backend"] = ww.ops.which(x)
            if contender.name in results:
                expected[key] = results[contender.name]
    calls, broken = build_calls(makers)
    check = Check(expected)
    timings = broken | setting.time(calls, check)
    return [{**row, **timing_row(timings[key]), **check.row(key)} for key, row in where.items()]


def _slope(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    mine = [row for row in rows if row["contender"] == name and row["failure"] is None]
    first = {key: rows[0][key] for key in ("measure", "layout", "factor")}
    if len({row["size"] for row in mine}) < 2:
        return {**first, "contender": name, "slope": None, "standard_error": None}
    slope, error = fit_slope([row["size"] for row in mine], [row["median_ms"] for row in mine])
    return {**first, "contender": name, "slope": slope, "standard_error": error}


def _tables(times: list[dict[str, Any]], slopes: list[dict[str, Any]]) -> list[Table]:
    tables = []
    for key in dict.fromkeys((row["measure"], row["layout"], row["factor"]) for row in times):
        rows = [row for row in times if (row["measure"], row["layout"], row["factor"]) == key]
        sizes = list(dict.fromkeys(row["size"] for row in rows))
        cells = {(row["contender"], row["size"]): row for row in rows}
        lines = []
        for row in (row for row in slopes if (row["measure"], row["layout"], row["factor"]) == key):
            name, slope, error = row["contender"], row["slope"], row["standard_error"]
            words = "" if slope is None else f"{slope:.2f}" + ("" if error is None else f" ± {error:.2f}")
            lines.append([f"{name} (ms)", *(time_cell(cells[name, size]) for size in sizes), words])
        titles = ["contender", *(f"{key[2]} = {size}" for size in sizes), "slope ± standard error"]
        tables.append(Table(f"{key[0]}, {key[1]}, {key[2]} grows", titles, lines, remarks(rows)))
    return tables


if __name__ == "__main__":
    sys.exit(main())
