"""Whole networks with and without attention: inference and a training step."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import whatwhere as ww

from .checking import Check, build_calls, forget_compiled
from .memory import saved_bytes
from .network_calls import MEASURES, Arm, DoesNotApply, Measure, load_network, network_arms, network_call
from .report import Report, Table, number, remarks, time_cell, timing_row
from .setting import MEMORY_FORMATS, MemoryFormat, Setting, run

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Network(Setting):
    """Time networks with whatwhere's and timm's attention at the same sites, eager, fused and compiled, over the plain
    network.

    Inference is a forward pass in inference mode. A step is forward, cross entropy, backward and a step of SGD with
    momentum. Every network must first compute the right numbers: fused or compiled what it computes eager, and
    whatwhere's what it computes in plain PyTorch. Where there is nothing to fuse, the rows with "fuse" are left out.

    Try:
        python -m benchmarks.network --quick
        python -m benchmarks.network --allocator tuned --seconds 120
        python -m benchmarks.network --networks resnet50 --contenders 'plain*' 'ours-cbam*'
    """

    networks: tuple[str, ...] = ("resnet50", "efficientnet_lite0")
    """Networks of torchvision or timm."""
    batch: int = 8
    """Images in a batch."""
    size: int = 224
    """Side of the images in pixels."""
    layout: MemoryFormat = "channels_last"
    """Memory layout of images and weights."""

    def images(self) -> Tensor:
        """Draw the images."""
        batch, size = (2, 64) if self.quick else (self.batch, self.size)
        images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
        return images.to(self.where).contiguous(memory_format=MEMORY_FORMATS[self.layout])


def measure(setting: Network) -> None:
    """Measure, print, write."""
    known = network_arms()
    chosen = [known[name] for name in setting.choose(known)]
    plain = {name: load_network(name) for name in setting.networks}
    report = Report("network", setting)
    rows: Rows = []
    left_out: dict[str, str] = {}
    for index, (name, model) in enumerate(plain.items()):
        for kind in MEASURES:
            rows += _time(setting, name, model, kind, chosen, left_out)
            report.say(f"[{index + 1}/{len(plain)}] {name}, {kind}")
            done = index + 1 == len(plain) and kind == MEASURES[-1]
            report.save(_tables(rows, left_out), {"times": rows, "left_out": left_out}, complete=done)
    report.show(_tables(rows, left_out))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run(Network, "benchmarks.network", arguments, measure)


def _time(
    setting: Network, name: str, plain: nn.Module, kind: Measure, chosen: list[Arm], left_out: dict[str, str]
) -> Rows:
    forget_compiled()
    images = setting.images()
    plain = plain.to(setting.where)
    kept: dict[str, int] = {}

    def make(arm: Arm) -> Callable[[], Tensor]:
        try:
            model = arm.build(plain, images)
        except DoesNotApply as error:
            left_out[f"{name}, {arm.name}"] = str(error)
            raise
        if kind == "step" and not arm.compile:
            twin = arm.build(plain, images).train()
            kept[arm.name] = saved_bytes(lambda: twin(images), twin)
        return network_call(arm, model, kind, images)

    calls, broken = build_calls({arm.name: partial(make, arm) for arm in chosen})
    check = Check(_expected(plain, kind, chosen, images))
    timings = broken | setting.time(calls, check)
    where = {
        "network": name,
        "measure": kind,
        "batch": len(images),
        "size": images.shape[-1],
        "layout": setting.layout,
        "backend": ww.ops.which(images),
    }
    return [
        {**where, "contender": n, **timing_row(timings[n]), **check.row(n), "kept_bytes": kept.get(n)}
        for n in (arm.name for arm in chosen)
        if f"{name}, {n}" not in left_out
    ]


def _expected(plain: nn.Module, kind: Measure, chosen: list[Arm], images: Tensor) -> dict[str, Tensor]:
    """Return by name what the arms are to give at first (nothing where their twin fails)."""
    found: dict[Arm, Tensor] = {}
    for twin in {arm.twin for arm in chosen}:
        with suppress(Exception):
            found[twin] = network_call(twin, twin.build(plain, images), kind, images)()
    return {arm.name: found[arm.twin] for arm in chosen if arm.twin in found}


def _tables(rows: Rows, left_out: dict[str, str]) -> list[Table]:
    tables = []
    for network in dict.fromkeys(row["network"] for row in rows):
        here = [row for row in rows if row["network"] == network]
        cells = {(row["contender"], row["measure"]): row for row in here}
        lines = []
        for name in dict.fromkeys(row["contender"] for row in here):
            line = [name]
            for kind in MEASURES:
                row = cells.get((name, kind))
                line += [time_cell(row), _ratio(row, cells.get(("plain", kind)))]
                line.append(_ratio(row, cells.get(("plain+compile", kind))) if name.endswith("+compile") else "")
            kept = cells.get((name, "step"), {}).get("kept_bytes")
            lines.append([*line, "" if kept is None else number(kept / 1e6)])
        titles = [title for kind in MEASURES for title in (f"{kind} (ms)", "÷ plain", "÷ plain+compile")]
        notes = [f"{name} left out: {why}" for name, why in left_out.items() if name.startswith(f"{network}, ")]
        notes += remarks(here)
        where = "batch {batch}, {size}×{size}, {layout}".format(**here[0])
        tables.append(Table(f"{network}, {where}", ["contender", *titles, "kept for backward (MB)"], lines, notes))
    return tables


def _ratio(row: dict[str, Any] | None, base: dict[str, Any] | None) -> str:
    if row is None or base is None or row["median_ms"] is None or base["median_ms"] is None:
        return ""
    return f"×{number(row['median_ms'] / base['median_ms'])}"


if __name__ == "__main__":
    sys.exit(main())
