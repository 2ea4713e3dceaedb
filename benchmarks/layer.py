"""One attention layer on the maps of ResNet-50, beside timm's and beside a plain copy."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

import whatwhere as ww
from whatwhere.cost.stopwatch import describe
from whatwhere.errors import WhatwhereError

from .checking import Check, build_calls, forget_compiled
from .contenders import Contender, layer_contenders
from .layer_calls import MEASURES, Map, Measure, expected_results, layer_call
from .layer_tables import make_summary, make_tables
from .memory import saved_bytes
from .report import Report, timing_row
from .setting import MemoryFormat, Setting, run

RESNET50 = ("64x112x112", "256x56x56", "512x28x28", "1024x14x14", "2048x7x7")


@dataclass(frozen=True)
class Layer(Setting):
    """Time CBAM and SE as layers: whatwhere's and timm's with the same weights, eager and compiled, and a copy of the
    map.

    Every contender must first compute the right numbers. Then, for each map, all take turns. Measured are a forward
    pass without gradients, a forward pass with the backward pass, and the bytes that autograd keeps in between. The
    summary gives geometric means over the maps and layouts at batch 8 (or the nearest there is).

    Try:
        python -m benchmarks.layer --quick
        python -m benchmarks.layer --allocator tuned --out runs/benchmarks/layer-tuned
        python -m benchmarks.layer --batches 8 --contenders copy '*-cbam*' --seconds 20
        python -m benchmarks.layer --device cuda --dtype bfloat16
    """

    batches: tuple[int, ...] = (1, 8, 32)
    """Batch sizes."""
    shapes: tuple[str, ...] = ()
    """Maps, as CxHxW; by default those of ResNet-50, with --quick one small map."""
    layouts: tuple[MemoryFormat, ...] = ("nchw", "channels_last")
    """Memory layouts of maps and weights."""
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """Of maps and weights."""

    @property
    def maps(self) -> list[Map]:
        """All maps to measure on.

        Raises:
            WhatwhereError: a shape or batch that cannot be read.
        """
        shapes = [_read(word) for word in self.shapes or (("32x14x14",) if self.quick else RESNET50)]
        if min(self.batches) < 1:
            raise WhatwhereError(f"--batches {self.batches}: a batch has at least 1 image")
        batches = self.batches[:1] if self.quick else self.batches
        dtype = getattr(torch, self.dtype)
        return [Map(b, *s, layout, dtype, self.where) for b in batches for layout in self.layouts for s in shapes]


def measure(setting: Layer) -> None:
    """Measure, print, write."""
    known = layer_contenders()
    chosen = [known[name] for name in setting.choose(known)]
    maps = setting.maps
    report = Report("layer", setting)
    times: list[dict[str, Any]] = []
    saved: list[dict[str, Any]] = []
    for index, what in enumerate(maps):
        for kind in MEASURES:
            times += _time(setting, what, kind, chosen)
        saved += [_count(what, contender) for contender in chosen if not contender.compile]
        report.say(f"[{index + 1}/{len(maps)}] batch {what.batch}, {what.shape}, {what.layout}")
        summary = make_summary(times, saved)
        report.save(
            make_tables(times, saved, summary),
            {"times": times, "saved": saved, "summary": summary},
            complete=index + 1 == len(maps),
        )
    report.show(make_tables(times, saved, summary))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run(Layer, "benchmarks.layer", arguments, measure)


def _time(setting: Layer, what: Map, kind: Measure, chosen: list[Contender]) -> list[dict[str, Any]]:
    forget_compiled()
    x, g = what.draw(0), what.draw(1)
    calls, broken = build_calls({c.name: partial(layer_call, c, what, kind, x, g) for c in chosen})
    check = Check(expected_results(what, kind, chosen, x, g))
    timings = broken | setting.time(calls, check)
    where = {"measure": kind, **what.row(), "backend": ww.ops.which(x)}
    return [{**where, "contender": c.name, **timing_row(timings[c.name]), **check.row(c.name)} for c in chosen]


def _count(what: Map, contender: Contender) -> dict[str, Any]:
    row = {**what.row(), "contender": contender.name, "bytes": None, "of_the_map": None, "failure": None}
    x = what.draw(0).requires_grad_()
    try:
        module = what.prepare(contender.module(what.channels)).train()
        run_it = contender.caller(module)
        row["bytes"] = saved_bytes(lambda: run_it(x), module)
        row["of_the_map"] = row["bytes"] / x.untyped_storage().nbytes()
    except Exception as error:
        row["failure"] = describe(error)
    return row


def _read(shape: str) -> tuple[int, int, int]:
    parts = shape.split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise WhatwhereError(f"--shapes {shape}: write CxHxW, such as 256x56x56")
    return int(parts[0]), int(parts[1]), int(parts[2])


if __name__ == "__main__":
    sys.exit(main())
