"""Reports as plain text."""

from collections.abc import Sequence


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Return aligned columns, those in ``left`` to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]

    def line(row: Sequence[str]) -> str:
        cells = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return "  ".join(cells).rstrip()

    return "\n".join([line(titles), "  ".join("─" * width for width in widths), *map(line, rows)])


def share(value: float | None) -> str:
    """Return a share from 0 to 1 in percent."""
    return "–" if value is None else f"{100 * value:.2f}"
