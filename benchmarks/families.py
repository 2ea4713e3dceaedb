"""Attention in a network of every family: sites, cost, same output at the start, training. Writes the table of
docs/families.md.

python -m benchmarks.families
python -m benchmarks.families --only "efficientnet*" "resnet18"
python -m benchmarks.families --write docs/families.md
"""

import fnmatch
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import Progress

from whatwhere.errors import WhatwhereError, closest
from whatwhere.files import write_text
from whatwhere.tables import markdown_table, table

from .architectures import ARCHITECTURES, Architecture
from .markers import around
from .survey import Row, survey

ERR = Console(stderr=True, soft_wrap=True)
TITLES = ("family", "architecture", "library", "sites", "parameters", "multiply-adds", "output", "training")


@dataclass(frozen=True)
class Families:
    """Try attention in a network of every family, with random weights: sites, cost, same output at the start, training.

    Ends with status 1 if anything does not hold. All of them take some minutes.

    Try:
        python -m benchmarks.families
        python -m benchmarks.families --only "efficientnet*" "resnet18"
        python -m benchmarks.families --write docs/families.md
    """

    only: tuple[str, ...] = ()
    """Globs over architectures, families or libraries; all by default."""
    attention: str = "cbam"
    """Which attention is put in."""
    markdown: bool = False
    """Print the table in Markdown."""
    write: Path | None = None
    """Also put the table into this file, between its two markers (<!-- families: begin --> and end)."""

    def run(self) -> None:
        """Try and print."""
        chosen = choose(self.only)
        if self.write and (self.only or self.attention != "cbam"):
            raise WhatwhereError(
                "--write puts in the table of all families with cbam: leave --only and --attention out"
            )
        before = around(self.write, "families") if self.write else ("", "")
        rows = []
        with Progress(console=ERR, transient=True) as progress:
            task = progress.add_task("families", total=len(chosen))
            for architecture in chosen:
                progress.update(task, description=architecture.name)
                rows.append(survey(architecture, self.attention))
                progress.advance(task)
        if self.markdown:
            print(family_table(rows))
        else:
            print(table(TITLES, [cells(row) for row in rows], left=(0, 1, 2, 3)))
        wrong = [row for row in rows if row.failures]
        for row in wrong:
            ERR.print(f"{row.architecture.library} {row.architecture.name}: {'; '.join(row.failures)}", markup=False)
        if wrong:
            ERR.print(f"{len(wrong)} of {len(rows)} architectures fail", markup=False)
            raise SystemExit(1)
        if self.write:
            write_text(self.write, f"{before[0]}\n{family_table(rows)}\n{before[1]}")


def choose(only: Sequence[str]) -> list[Architecture]:
    """Return the architectures whose name, family or library matches one of the globs."""
    words = {word for a in ARCHITECTURES for word in (a.name, a.family, a.library)}
    for pattern in only:
        if not fnmatch.filter(words, pattern):
            raise WhatwhereError(
                f"--only {pattern!r} matches no architecture, family or library{closest(pattern, words)}"
            )
    return [
        a
        for a in ARCHITECTURES
        if not only or any(fnmatch.fnmatch(word, p) for word in (a.name, a.family, a.library) for p in only)
    ]


def cells(row: Row) -> list[str]:
    """Return the cells of a row as text."""
    counts = {"residual": row.residual, "stage": row.stage, "decoder": row.module}
    kinds = [f"{count} {kind}" for kind, count in counts.items() if count]
    broken = "; ".join(row.failures)
    return [
        row.architecture.family,
        row.architecture.name,
        row.architecture.library,
        " + ".join(kinds),
        f"+{100 * row.parameters:.2f} %",
        f"+{100 * row.multiply_adds:.2f} %",
        "same" if row.change == 0 else f"{row.change:.0e}",
        f"FAILS: {broken}" if broken else "works",
    ]


def family_table(rows: Sequence[Row]) -> str:
    """Return the table in Markdown."""
    shown = [cells(row) for row in rows]
    return markdown_table(TITLES, [[line[0], f"`{line[1]}`", *line[2:]] for line in shown])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0, 1 where something does not hold, 2 for what the user can mend."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        tyro.cli(Families, prog="python -m benchmarks.families", args=words).run()
    except WhatwhereError as error:
        ERR.print(f"families: {error}", markup=False)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
