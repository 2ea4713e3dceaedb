"""Measure the attentions beside their official code, and make the pages of docs/family."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import track

import whatwhere as ww
from benchmarks.conditions import describe_conditions, in_words
from benchmarks.exact.__main__ import all_cases
from whatwhere.errors import WhatwhereError, closest
from whatwhere.files import write_text

from .measure import measure, names_by_kind
from .pages import page, put_table

ERR = Console(stderr=True, soft_wrap=True)
ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/family/results.json"
DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Family:
    """Measure the attentions beside a copy of the map and beside their official code; make the pages of docs/family.

    What is measured goes to ``benchmarks/family/results.json``, from which the pages are made. All of them take about
    10 minutes.

    Try:
        python -m benchmarks.family --repositories ~/official
        python -m benchmarks.family --names coordatt gc
        python -m benchmarks.family --pages-only
    """

    names: tuple[str, ...] = ()
    """Measure only these; the others keep what was measured before."""
    repositories: Path = Path("runs/official")
    """Where clones of official repositories are, and where new ones go."""
    seconds: float = 3.0
    """How long each contender is timed."""
    pages_only: bool = False
    """Measure nothing: make the pages from what was measured before."""

    def run(self) -> None:
        """Measure and write."""
        before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"attentions": {}}
        found, conditions = before["attentions"], before.get("conditions")
        for name in self.names:
            if name not in ww.names():
                raise WhatwhereError(f"unknown attention {name!r}{closest(name, ww.names())}")
        if not self.pages_only:
            cases = {case.name: case for case in reversed(all_cases())}
            conditions = describe_conditions("default", "cpu")
            for name in track(self.names or names_by_kind(), "measuring", console=ERR):
                found[name] = measure(name, cases.get(name), self.repositories, self.seconds)
                write_text(RESULTS, json.dumps({"conditions": conditions, "attentions": found}, indent=1) + "\n")
        if missing := sorted({*ww.names()} - {*found}):
            raise WhatwhereError(f"nothing was measured of {', '.join(missing)}: run with --names {' '.join(missing)}")
        (DOCS / "family").mkdir(exist_ok=True)
        for name in names_by_kind():
            write_text(DOCS / "family" / f"{name}.md", page(name, found[name]))
        put_table(DOCS / "family.md", found, in_words(conditions))


if __name__ == "__main__":
    try:
        tyro.cli(Family).run()
    except WhatwhereError as error:
        ERR.print(str(error), markup=False)
        sys.exit(1)
