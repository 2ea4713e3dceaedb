"""What the commands print with."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

OUT = Console(soft_wrap=True)
ERR = Console(stderr=True, soft_wrap=True)


def make_table(titles: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> Table:
    """Return a table for the terminal; ``left`` are the columns that are aligned to the left."""
    table = Table()
    for index, title in enumerate(titles):
        table.add_column(title, justify="left" if index in left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table
