"""Boxes drawn over an image."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from . import panels

NAMED = 12
"""With more boxes than this, their names are left out."""


class Style(NamedTuple):
    """How one kind of box is drawn, so that it can be told apart without colour too."""

    colour: str
    line: str
    words: str


STYLES = {
    "found": Style("#1f6fb4", "-", "found"),
    "hit": Style("#1f6fb4", "-", "hit"),
    "false alarm": Style("#d95f02", "--", "false alarm"),
    "miss": Style("#111111", ":", "miss"),
}


class Drawn(NamedTuple):
    """A box to be drawn: x1, y1, x2, y2 in pixels, what is written at it, and its kind, one of :data:`STYLES`."""

    box: Sequence[float]
    text: str
    kind: str


def draw_boxes(axes: Any, boxes: Sequence[Drawn], *, size: float = 6.5) -> None:
    """Draw boxes over an image that is shown in pixels, with a legend of their kinds below.

    Args:
        axes: matplotlib's.
        boxes: which; their names are written only where there are at most :data:`NAMED`.
        size: of the names, in points.
    """
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    halo: list[Any] = [withStroke(linewidth=2.2, foreground="white")]
    right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
    for one in boxes:
        style = STYLES[one.kind]
        x1, y1, x2, y2 = one.box
        frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=style.colour, ls=style.line, lw=1.1)
        frame.set_path_effects(halo)
        axes.add_patch(frame)
        if one.text and len(boxes) <= NAMED:
            above = y1 > 0.06 * bottom
            axes.annotate(
                one.text,
                (min(max(x1, 0.0), right), y1),
                (1, 1 if above else -1),
                textcoords="offset points",
                size=size,
                color=style.colour,
                va="bottom" if above else "top",
                ha="left" if x1 < 0.75 * right else "right",
                path_effects=halo,
                clip_on=False,
            )


def legend(axes: Any, counts: dict[str, int]) -> None:
    """Write below the axes how many boxes there are of each kind, each beside a piece of its line."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=STYLES[kind].colour, ls=STYLES[kind].line, lw=1.3, label=count_words(count, kind))
        for kind, count in counts.items()
    ]
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        ncols=len(handles),
        frameon=False,
        fontsize=7.5,
        handlelength=1.8,
        columnspacing=1.2,
        handletextpad=0.5,
        borderaxespad=0.1,
    )


def count_words(count: int, kind: str) -> str:
    """Return ``"2 hits"``, ``"1 miss"``, ``"0 misses"``.

    Example:
        >>> count_words(2, "hit"), count_words(1, "miss"), count_words(0, "miss"), count_words(3, "found")
        ('2 hits', '1 miss', '0 misses', '3 found')
    """
    plural = "" if count == 1 or kind == "found" else "es" if kind.endswith("s") else "s"
    return f"{count} {kind}{plural}"


def describe(axes: Any, rows: Sequence[tuple[str, int, float]]) -> None:
    """List the classes found: name, number of boxes, highest score."""
    axes.set(xlim=(0, 1), ylim=(9, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    panels.below(axes, "found, with the best score")
    if not rows:
        axes.text(0, 0.6, "nothing", size=9, color=panels.GREY, va="center")
    for row, (name, count, best) in enumerate(rows[:8]):
        times = f" × {count}" if count > 1 else ""
        weight = "bold" if row == 0 else "normal"
        axes.text(0, row + 0.6, panels.short(name, 14) + times, size=8, weight=weight, va="center")
        axes.text(1, row + 0.6, f"{best:.2f}", size=8, ha="right", va="center", color=panels.GREY)
    if len(rows) > 8:
        axes.text(0, 8.6, f"and {len(rows) - 8} more classes", size=7, color=panels.GREY, va="center")
