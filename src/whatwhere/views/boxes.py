"""Boxes drawn over an image."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    """A box to be drawn: x1, y1, x2, y2 in pixels, what is written at it, and its kind, one of :data:`STYLES`.

    Example:
        >>> Drawn((2, 3, 20, 30), "cat 0.93", "hit").kind
        'hit'
    """

    box: Sequence[float]
    text: str
    kind: str


def draw_boxes(axes: Any, boxes: Sequence[Drawn], *, size: float = 6.5, named: int = NAMED) -> None:
    """Draw boxes over an image that is shown in pixels.

    Args:
        axes: matplotlib's.
        boxes: which, the most important last; it is drawn over the others.
        size: of the names, in points.
        named: with more boxes than this no names are written. A name that would lie on another one is left out.
    """
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    halo: list[Any] = [withStroke(linewidth=2.2, foreground="white")]
    right, bottom = float(axes.get_xlim()[1]), float(axes.get_ylim()[0])
    for one in boxes:
        style = STYLES[one.kind]
        x1, y1, x2, y2 = one.box
        frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=style.colour, ls=style.line, lw=1.1)
        frame.set_path_effects(halo)
        axes.add_patch(frame)
    taken: list[tuple[float, float]] = []
    for one in reversed(boxes if len(boxes) <= named else ()):
        x1, y1, x2, y2 = one.box
        left = x1 < 0.75 * right
        x = x1 if left else x2
        for y, above in ((y1, True), (y2, False)):
            inside = y > 0.06 * bottom if above else y < 0.94 * bottom
            free = all(abs(x - u) > 0.2 * right or abs(y - v) > 0.06 * bottom for u, v in taken)
            if one.text and inside and free:
                taken.append((x, y))
                axes.annotate(
                    one.text,
                    (x, y),
                    (0, 1.5 if above else -1.5),
                    textcoords="offset points",
                    size=size,
                    color=STYLES[one.kind].colour,
                    va="bottom" if above else "top",
                    ha="left" if left else "right",
                    path_effects=halo,
                )
                break


def draw_image(image: NDArray[np.uint8], boxes: Sequence[Drawn], counts: dict[str, int]) -> Any:
    """Return a figure of an image ``uint8 (h, w, 3)`` with boxes, and a legend of how many there are of each kind.

    Example:
        >>> figure = draw_image(np.zeros((40, 60, 3), np.uint8), [Drawn((2, 3, 20, 30), "cat", "found")], {"found": 1})
        >>> len(figure.axes[0].patches)
        1
    """
    import matplotlib
    from matplotlib.figure import Figure

    height, width = image.shape[:2]
    with matplotlib.rc_context(panels.STYLE):
        inches = 6.4 * height / width
        figure = Figure(figsize=(6.4, inches + 0.3), facecolor="white")
        axes = figure.add_axes((0, 0.3 / (inches + 0.3), 1, inches / (inches + 0.3)))
        panels.show(axes, image, "")
        draw_boxes(axes, boxes, size=7.5, named=60)
        legend(axes, counts)
    return figure


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
    panels.below(axes, "best score")
    if not rows:
        axes.text(0, 0.6, "nothing", size=9, color=panels.GREY, va="center")
    for row, (name, count, best) in enumerate(rows[:8]):
        times = f" × {count}" if count > 1 else ""
        weight = "bold" if row == 0 else "normal"
        axes.text(0, row + 0.6, panels.short(name, 10) + times, size=8, weight=weight, va="center")
        axes.text(1, row + 0.6, f"{best:.2f}", size=8, ha="right", va="center", color=panels.GREY)
    if len(rows) > 8:
        axes.text(0, 8.6, f"and {len(rows) - 8} more classes", size=7, color=panels.GREY, va="center")
