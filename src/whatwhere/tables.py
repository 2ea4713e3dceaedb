"""Tables, as plain text and in Markdown."""

from collections.abc import Sequence


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, with a line for each row.

    Example:
        >>> print(markdown_table(["network", "%"], [["plain", "77.3"]]))
        | network | % |
        | --- | --- |
        | plain | 77.3 |
    """
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: Sequence[int] = (0,),
    total: Sequence[str] | None = None,
) -> str:
    """Return a table as plain text with aligned columns.

    Args:
        titles: of the columns.
        rows: the cells.
        left: indices of the columns that are aligned to the left; the others are aligned to the right.
        total: a last row, below a rule.

    Example:
        >>> print(table(["part", "n"], [["a", "3"], ["b", "12"]], total=["sum", "15"]))
        part   n
        ────  ──
        a      3
        b     12
        ────  ──
        sum   15
    """
    every = [titles, *rows, *([] if total is None else [total])]
    widths = [max(len(row[column]) for row in every) for column in range(len(titles))]
    rule = "  ".join("─" * width for width in widths)

    def line(row: Sequence[str]) -> str:
        cells = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return "  ".join(cells).rstrip()

    end = [] if total is None else [rule, line(total)]
    return "\n".join([line(titles), rule, *map(line, rows), *end])


def share(value: float | None) -> str:
    """Return a share from 0 to 1 in percent, a dash for None.

    Example:
        >>> share(0.773), share(None)
        ('77.30', '–')
    """
    return "–" if value is None else f"{100 * value:.2f}"
