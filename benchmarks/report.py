"""What a benchmark says: tables on the terminal and in Markdown, and everything in JSON."""

import dataclasses
import datetime
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from whatwhere.cli.show import make_table
from whatwhere.cost import Measurement
from whatwhere.files import write_text
from whatwhere.tables import markdown_table

from .conditions import describe_conditions, in_words
from .setting import Setting

WIDTH = 200
"""Columns of the tables where the output goes to a file."""


@dataclass(frozen=True)
class Table:
    """Rows of words under titles, with notes below."""

    title: str
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


class Report:
    """Collects what is measured and writes it, again after every case, so that an interrupted run keeps what it has."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.name = name
        self.setting = setting
        self.conditions = describe_conditions(setting.allocator, setting.device)
        self.start = datetime.datetime.now(datetime.UTC)
        self.path = setting.out or Path("runs/benchmarks") / name
        self.console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
        self.errors = Console(stderr=True, soft_wrap=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.conditions["load"] > 0.5:
            self.say(
                f"something else runs on this machine (load {self.conditions['load']:.1f}): the figures will be off"
            )

    def say(self, words: str) -> None:
        """Say on standard error how far it is."""
        self.errors.print(words, markup=False, highlight=False)

    def save(self, tables: Sequence[Table], data: dict[str, Any], *, complete: bool) -> None:
        """Write NAME.json and NAME.md."""
        content = {
            "benchmark": self.name,
            "complete": complete,
            "settings": {k: _plain(v) for k, v in dataclasses.asdict(self.setting).items()},
            "started": self.start.isoformat(timespec="seconds"),
            "seconds": round((datetime.datetime.now(datetime.UTC) - self.start).total_seconds(), 1),
            "conditions": self.conditions,
            **data,
        }
        write_text(self.path.with_name(self.path.name + ".json"), json.dumps(content, indent=1, allow_nan=False) + "\n")
        parts = [
            part
            for table in tables
            for part in (f"### {table.title}", markdown_table(table.titles, table.rows), *table.notes)
        ]
        write_text(self.path.with_name(self.path.name + ".md"), "\n\n".join([*parts, self.foot()]) + "\n")

    def show(self, tables: Sequence[Table]) -> None:
        """Print the tables."""
        for table in tables:
            self.console.print(f"\n{table.title}", style="bold", markup=False, highlight=False)
            self.console.print(make_table(table.titles, table.rows))
            for note in table.notes:
                self.console.print(note, markup=False, highlight=False)
        self.console.print(f"\n{self.foot()}", markup=False, highlight=False)
        self.console.print(f"{self.path}.json, {self.path}.md", markup=False, highlight=False)

    def foot(self) -> str:
        """Say how and on what it was measured."""
        quick = "A quick try: the figures mean nothing. " if self.setting.quick else ""
        return (
            f"{quick}Medians over rounds in which all contenders take turns in one process; "
            "± is half the interquartile range. " + in_words(self.conditions)
        )


def timing_row(measured: Measurement) -> dict[str, Any]:
    """Return a measurement for JSON; everything is None for a contender that failed, but ``failure``."""
    ran = measured.failure is None and bool(measured.samples)
    return {
        "median_ms": measured.timing.median if ran else None,
        "spread_percent": measured.timing.spread if ran else None,
        "rounds": len(measured.samples) if ran else None,
        "calls_a_round": measured.calls if ran else None,
        "first_call_s": measured.first / 1e3 if ran else None,
        "samples_ms": measured.samples if ran else None,
        "failure": measured.failure,
    }


def time_cell(row: dict[str, Any] | None) -> str:
    """Return a time for a table: ``1.23 ±2 %``, ``failed``, or nothing where none was measured."""
    if row is None:
        return ""
    if row["failure"] is not None:
        return "failed"
    return f"{number(row['median_ms'])} ±{row['spread_percent']:.0f} %"


def number(value: float) -> str:
    """Return a number with three digits that count, without exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean."""
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def remarks(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say in lines what failed and why, each reason once, what could not be checked, and where
    compiling broke the graph.
    """
    failed = Counter((row["contender"], row["failure"]) for row in rows if row["failure"] is not None)
    said = [f"{name} {words} ({count} ×)" for (name, words), count in failed.items()]
    unchecked = [row["contender"] for row in rows if row["failure"] is None and row["relative_error"] is None]
    if unchecked:
        said.append(f"not checked, for want of the right numbers: {', '.join(dict.fromkeys(unchecked))}")
    broken = {row["contender"]: row["graph_breaks"] for row in rows if row["graph_breaks"]}
    return said + [f"{name}: {count} graph breaks" for name, count in broken.items()]


def _plain(value: Any) -> Any:
    if isinstance(value, (Path, torch.device)):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
