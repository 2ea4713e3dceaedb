"""Overhead of the end of a residual block: its time, forward and backward, from a tiny map to a large one."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import whatwhere as ww

from .checking import Check, build_calls
from .contenders import with_weights
from .report import Report, Table, remarks, time_cell, timing_row
from .setting import Setting, run

TAILS = ("plain", "plain+fuse", "se+fuse", "sam+fuse", "cbam", "cbam+fuse")


@dataclass(frozen=True)
class Overhead(Setting):
    """Time relu(attention(norm(x)) + shortcut), forward and backward, over the side of the map.

    On the smallest map there is almost nothing to compute: what remains is the overhead of the operations.

    Try:
        python -m benchmarks.overhead --quick
        python -m benchmarks.overhead --channels 1024 --sides 2 14
    """

    channels: int = 256
    """C of the maps."""
    batch: int = 8
    """N of the maps."""
    sides: tuple[int, ...] = (4, 14, 28, 56)
    """H and W."""


def tail_call(name: str, setting: Overhead, side: int) -> Callable[[], Tensor]:
    """Return a call that runs one tail forward and backward and gives its output."""
    torch.manual_seed(0)
    shape = (setting.batch, setting.channels, side, side)
    x, shortcut, g = (torch.randn(shape).contiguous(memory_format=torch.channels_last) for _ in range(3))
    leaves = x.requires_grad_(), shortcut.requires_grad_()
    kind, _, fused = name.partition("+")
    norm = nn.BatchNorm2d(setting.channels)
    attention = None if kind == "plain" else with_weights(ww.create(kind, setting.channels))
    parameters = [*leaves, *norm.parameters(), *(() if attention is None else attention.parameters())]

    def tail() -> Tensor:
        if not fused:
            u = norm(x)
            return torch.relu((u if attention is None else attention(u)) + shortcut)
        if attention is None:
            return ww.ops.attend(x, (), norm=norm, residual=shortcut, relu=True)
        return attention.attend(x, norm=norm, residual=shortcut, relu=True)

    def call() -> Tensor:
        for parameter in parameters:
            parameter.grad = None
        y = tail()
        y.backward(g)
        return y.detach()

    return call


def measure(setting: Overhead) -> None:
    """Measure, print, write."""
    names = setting.choose(TAILS)
    sides = (4,) if setting.quick else setting.sides
    report = Report("overhead", setting)
    rows: list[dict[str, Any]] = []
    for index, side in enumerate(sides):
        calls, broken = build_calls({name: partial(tail_call, name, setting, side) for name in names})
        whole = {name: name.removesuffix("+fuse") for name in names}
        check = Check({name: tail_call(whole[name], setting, side)() for name in calls})
        timings = broken | setting.time(calls, check)
        backend = ww.ops.which(torch.empty(1, setting.channels, side, side))
        rows += [
            {"contender": name, "side": side, "backend": backend, **timing_row(timings[name]), **check.row(name)}
            for name in names
        ]
        report.say(f"[{index + 1}/{len(sides)}] {side}×{side}")
        report.save([_table(setting, rows, names)], {"times": rows}, complete=index + 1 == len(sides))
    report.show([_table(setting, rows, names)])


def _table(setting: Overhead, rows: list[dict[str, Any]], names: Sequence[str]) -> Table:
    cells = {(row["contender"], row["side"]): row for row in rows}
    sides = list(dict.fromkeys(row["side"] for row in rows))
    lines = [[f"{name} (ms)", *(time_cell(cells.get((name, side))) for side in sides)] for name in names]
    title = f"tail of a block, forward+backward, batch {setting.batch}, {setting.channels} channels, channels_last"
    return Table(title, ["contender", *(f"{side}×{side}" for side in sides)], lines, remarks(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run(Overhead, "benchmarks.overhead", arguments, measure)


if __name__ == "__main__":
    sys.exit(main())
