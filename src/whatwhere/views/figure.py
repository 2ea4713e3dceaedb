"""The figure of one look: the image, Grad-CAM and the prediction; below, stage by stage, where and what."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import need
from . import panels
from .result import Look, View

WIDTH = 7.2  # inches: two columns of a paper
MARGIN, GAP = 0.12, 0.14
IMAGE = 1.95
SECOND = MARGIN + IMAGE + GAP  # left edges of the second and third panel
THIRD = SECOND + IMAGE + 2.4 * GAP
STAGES = 5  # the most that are shown


def stages(views: Sequence[View]) -> list[View]:
    """Choose what to show: the last view of each map size, in order; where that is one size or too many, some evenly.

    Example:
        >>> from whatwhere.layers import Gates
        >>> sides = (56, 56, 28, 28)
        >>> views = [View(f"layer{i}", Gates(), (side, side), 1.0, 1.0) for i, side in enumerate(sides)]
        >>> [view.module for view in stages(views)]
        ['layer1', 'layer3']
    """
    last = {view.size: view for view in views}
    chosen = list(views) if len(last) == 1 else [view for view in views if last[view.size] is view]
    if len(chosen) > STAGES:
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, STAGES).round().astype(int)]
    return chosen


def draw(found: Look) -> Any:
    """Draw ``found`` as a matplotlib ``Figure``, without a display and without matplotlib's global state."""
    need("matplotlib", "look")
    import matplotlib

    with matplotlib.rc_context(panels.STYLE):
        return _draw(found)


def _draw(found: Look) -> Any:
    figure, plan = draw_gates(found.image, found.views, found.title)
    panels.show(plan.axes(figure, MARGIN, plan.top, IMAGE, IMAGE), found.image, "image")
    axes = plan.axes(figure, SECOND, plan.top, IMAGE, IMAGE)
    panels.heat(axes, found.image, found.grad_cam.numpy(), f"Grad-CAM for “{panels.short(found.target, 20)}”")
    axes = plan.axes(figure, THIRD, plan.top, WIDTH - MARGIN - THIRD, IMAGE)
    panels.chances(axes, found.top)
    return figure


def draw_gates(
    image: NDArray[np.uint8],
    views: Sequence[View],
    title: str | None,
    *,
    first: float = IMAGE,
    covers: tuple[int, int] | None = None,
) -> tuple[Any, "Plan"]:
    """Return a figure with the gates below an empty first row, and its plan.

    Args:
        image: ``uint8 (H, W, 3)``.
        views: the gates.
        title: a line above the figure.
        first: height of the first row, in inches.
        covers: (height, width) that the gates are for, see :func:`whatwhere.views.panels.gate`.
    """
    from matplotlib.figure import Figure

    shown = stages(views)
    where = [view for view in shown if view.gates.spatial_view() is not None]
    what = [view for view in shown if view.gates.channel_view() is not None]
    aspect = min(1.5, image.shape[0] / image.shape[1])
    plan = Plan(bool(title), len(where), len(what), titled=where != what, first=first, aspect=aspect)
    figure = Figure(figsize=(WIDTH, plan.height), facecolor="white")
    if title:
        figure.text(MARGIN / WIDTH, 1 - 0.16 / plan.height, title, size=9.5, weight="bold", va="center")
    if where:
        maps = [view.gates.spatial_view()[0].numpy() for view in where]  # type: ignore[index]
        scale = panels.Scale.around(where[0].neutral, maps)
        x, y, side, height = plan.where[0]
        plan.write_head(figure, x, y, "Where", "spatial gates over the image" if plan.wide else "spatial gates")
        for cell, view, gates in zip(plan.where, where, maps, strict=True):
            panels.gate(plan.axes(figure, *cell), image, gates, scale, view.module, covers)
        panels.colours(figure, plan.axes(figure, plan.where[-1][0] + side + 0.1, y, 0.09, height), scale)
    if what:
        curves = [view.gates.channel_view()[0].numpy() for view in what]  # type: ignore[index]
        scale = panels.Scale.around(what[0].channel_neutral, curves)
        x, y, _, _ = plan.what[0]
        plan.write_head(
            figure, x, y, "What", "channel gates, from the largest to the smallest" if plan.wide else "channel gates"
        )
        for cell, view, gates in zip(plan.what, what, curves, strict=True):
            last = cell is plan.what[-1] or not plan.wide
            axes = plan.axes(figure, *cell)
            panels.channels(axes, gates, scale, "" if plan.wide else f"{panels.short(view.module, 14)}, ", last=last)
            if plan.titled:
                axes.set_title(panels.short(view.module, 20), size=7.5, pad=3)
    return figure, plan


Cell = tuple[float, float, float, float]


class Plan:
    """The position of each panel in inches: (left, top, width, height), from the top left corner of the figure."""

    head = 0.30  # height of a heading
    foot = 0.36  # for the caption below a panel
    right = 0.5  # for the labels of a scale
    curve = 0.8  # the height of a panel of channel gates

    def __init__(
        self, title: bool, where: int, what: int, titled: bool, *, first: float = IMAGE, aspect: float = 1.0
    ) -> None:
        self.top = MARGIN + (0.28 if title else 0)
        self.where: list[Cell] = []
        self.what: list[Cell] = []
        # One or two maps go below the image and Grad-CAM, with their channels beside them; more fill the width.
        self.wide = where == 0 or where > 2 or what > 2
        self.titled = self.wide and titled  # the channels are not below a map that names their module
        width = WIDTH - 2 * MARGIN - self.right
        y = self.top + first + self.foot
        if self.wide:
            most = max(where, what)
            side = (width - GAP * (most - 1)) / max(most, 1)
            lefts = [MARGIN + i * (side + GAP) for i in range(most)]
            if where:
                self.where = [(x, y + self.head, side, side * aspect) for x in lefts[:where]]
                y += self.head + side * aspect + self.foot
            if what:
                down = self.head + (0.17 if self.titled else 0)
                self.what = [(x, y + down, side, self.curve) for x in lefts[:what]]
                y += down + self.curve + self.foot
        else:
            y += self.head
            self.where = [(x, y, IMAGE, IMAGE * aspect) for x in (MARGIN, SECOND)[:where]]
            left = self.where[-1][0] + IMAGE + 0.75
            height = (IMAGE - 0.5 * (what - 1)) / max(what, 1)
            width = WIDTH - MARGIN - self.right - left
            self.what = [(left, y + i * (height + 0.5), width, height) for i in range(what)]
            y += IMAGE * max(1.0, aspect) + self.foot
        self.height = math.ceil(y * 50) / 50

    def axes(self, figure: Any, x: float, y: float, width: float, height: float) -> Any:
        """Make axes with their top left corner at (x, y)."""
        return figure.add_axes((x / WIDTH, 1 - (y + height) / self.height, width / WIDTH, height / self.height))

    def write_head(self, figure: Any, x: float, y: float, word: str, rest: str) -> None:
        """Write a heading above what starts at (x, y)."""
        up = 1 - (y - (0.3 if word == "What" and self.titled else 0.13)) / self.height
        text = figure.text(x / WIDTH, up, word, size=8.5, weight="bold", va="center")
        after = x + text.get_window_extent().width / figure.dpi + 0.08
        figure.text(after / WIDTH, up, rest, size=8, color=panels.GREY, va="center")
