"""Boxes drawn over an image."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import panels

NAMED = 12
"""With more boxes than this, their names are left out."""
WIDTH, TALLEST = 6.4, 9.0
"""The width and the largest height of an image that is drawn alone, in inches."""
WIDER = 1.1
"""How much wider a text may be than measured: letters are rounded to dots, so its width depends on the resolution."""


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
        boxes: which, the most important last; it is drawn over the others, and its name is placed first.
        size: of the names, in points.
        named: with more boxes than this no names are written. A name stays inside the image and is shortened where it
            is too long; one that would lie on another one is left out.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    frames = []
    for one in boxes:
        style = STYLES[one.kind]
        x1, y1, x2, y2 = one.box
        frames.append(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=style.colour, ls=style.line, lw=1.1))
    # White below all lines, not below each: that of one box would hide small boxes beside it.
    axes.add_collection(PatchCollection(frames, facecolor="none", edgecolor="white", linewidth=2.4), autolim=False)
    for frame in frames:
        axes.add_patch(frame)
    if len(boxes) <= named:
        axes.apply_aspect()  # from here on the axes have the place that they are drawn at
        taken: list[Any] = []
        for one in reversed(boxes):
            if one.text:
                _write_name(axes, one, size, taken)


def _write_name(axes: Any, one: Drawn, size: float, taken: list[Any]) -> None:
    """Write the name of a box at the first of its corners where it is inside the image and on no name of ``taken``.

    It is moved to the left or right where it would leave the image.
    """
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    x1, y1, x2, y2 = one.box
    text = axes.annotate(
        one.text,
        (x1, y1),
        (0, 1.5),
        textcoords="offset points",
        size=size,
        color=STYLES[one.kind].colour,
        path_effects=[withStroke(linewidth=2.2, foreground="white")],
    )
    shorten(text, one.text, axes.bbox.width)
    for x, y, ha, va in (
        (x1, y1, "left", "bottom"),
        (x1, y2, "left", "top"),
        (x2, y1, "right", "bottom"),
        (x2, y2, "right", "top"),
        (x1, y1, "left", "top"),
        (x1, y2, "left", "bottom"),
    ):
        text.xy = (x, y)
        text.set(ha=ha, va=va, position=(0, 1.5 if va == "bottom" else -1.5))
        area = text.get_window_extent()
        spare = (WIDER - 1) * area.width
        left, right = (area.x0, area.x1 + spare) if ha == "left" else (area.x0 - spare, area.x1)
        shift = max(axes.bbox.x0 - left, 0) - max(right - axes.bbox.x1, 0)
        text.set(position=(shift * 72 / axes.figure.dpi, text.get_position()[1]))
        area = Bbox.from_extents(left + shift, area.y0, right + shift, area.y1)
        inside = axes.bbox.y0 - 1 <= area.y0 and area.y1 <= axes.bbox.y1 + 1
        if inside and not area.count_overlaps(taken):
            taken.append(area)
            return
    text.remove()


def shorten(text: Any, words: str, width: float) -> None:
    """Make ``words`` the text of a matplotlib ``Text``, cut to ``width`` dots; a number or a count at its end stays.

    Example:
        >>> from matplotlib.figure import Figure
        >>> text = Figure(dpi=100).text(0, 0, "")
        >>> shorten(text, "a class with a long name 0.93", 90)
        >>> text.get_text().startswith("a cl"), text.get_text().endswith("… 0.93")
        (True, True)
    """
    found = re.fullmatch(r"(.*?)((?: ×)? [\d.]+)?", words, re.DOTALL)
    name, end = (found[1], found[2] or "") if found else (words, "")
    text.set_text(name + end)
    most = len(name)
    while most > 2 and WIDER * text.get_window_extent().width > width:
        most -= 1
        text.set_text(name[: most - 1].rstrip() + "…" + end)


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
        inches = min(TALLEST, WIDTH * height / width)
        figure = Figure(figsize=(WIDTH, inches + 0.3), facecolor="white")
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


def describe(axes: Any, rows: Sequence[tuple[str, int, float]], score: float) -> None:
    """List the classes found: name, number of boxes, highest score; ``score`` is the lowest that is shown."""
    axes.set(xlim=(0, 1), ylim=(9, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if not rows:
        axes.text(0, 0.2, f"no object with\na score of at\nleast {score:g}", size=9, color=panels.GREY, va="top")
        return
    panels.below(axes, "best score")
    for row, (name, count, best) in enumerate(rows[:8]):
        weight = "bold" if row == 0 else "normal"
        text = axes.text(0, row + 0.6, "", size=8, weight=weight, va="center")
        shorten(text, name.split(",")[0] + (f" × {count}" if count > 1 else ""), 0.74 * axes.bbox.width)
        axes.text(1, row + 0.6, f"{best:.2f}", size=8, ha="right", va="center", color=panels.GREY)
    if len(rows) > 8:
        more = len(rows) - 8
        axes.text(0, 8.6, f"and {more} more class{'es' if more > 1 else ''}", size=7, color=panels.GREY, va="center")
