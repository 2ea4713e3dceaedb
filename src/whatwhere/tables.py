"""Tables, as plain text and in Markdown."""

from collections.abc import Sequence


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, a line a row."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: Sequence[int] = (0,),
    total: Sequence[str] | None = None,
) -> str:
    """Return aligned columns, those in ``left`` to the left, the others to the right; ``total`` stands below a rule."""
    every = [titles, *rows, *([] if total is None else [total])]
    widths = [max(len(row[column]) for row in every) for column in range(len(titles))]
    rule = "  ".join("─" * width for width in widths)

    def line(row: Sequence[str]) -> str:
        cells = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return "  ".join(cells).rstrip()

    end = [] if total is None else [rule, line(total)]
    return "\n".join([line(titles), rule, *map(line, rows), *end])


def share(value: float | None) -> str:
    """Return a share from 0 to 1 in percent."""
    return "–" if value is None else f"{100 * value:.2f}"
