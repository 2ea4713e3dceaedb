"""The two plots of a study: learning curves, and the headline metric against measured time."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import need
from .results import Results, Row

# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.edgecolor": "#888888",
    "axes.axisbelow": True,
    "font.size": 10,
    "legend.frameon": False,
    "svg.fonttype": "none",
}


def draw_curves(results: Results) -> bytes:
    """Return a PNG: the headline metric after each epoch, mean over seeds, each seed thin behind it."""
    rows, headline = results.rows, results.headline
    with need("matplotlib", "look").rc_context(STYLE):
        figure, axes = _figure()
        for row, colour in zip(rows, _colours(rows), strict=True):
            if not row.curves:
                continue
            epochs = np.arange(1, len(row.curves[0]) + 1)
            for curve in row.curves:
                axes.plot(epochs, curve, color=colour, alpha=0.18, linewidth=0.9)
            style = "--" if row.arm in ("plain", "wider", "narrower") else "-"
            axes.plot(epochs, np.mean(row.curves, 0), style, color=colour, linewidth=2, label=row.arm)
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{headline.title} on test images{f' ({headline.unit})' if headline.unit else ''}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _legend(axes, "lower right" if headline.higher_is_better else "upper right")
        return _png(figure)


def draw_time(results: Results) -> bytes:
    """Return a PNG: the headline metric with its interval against the time of a training step with its quartiles."""
    rows, headline = results.rows, results.headline
    with need("matplotlib", "look").rc_context(STYLE):
        figure, axes = _figure()
        for row, colour in zip(rows, _colours(rows), strict=True):
            if row.headline is None:
                continue
            step = row.cost.step
            half = row.headline.half
            axes.errorbar(
                step.median,
                row.headline.mean,
                xerr=[[step.median - step.low], [step.high - step.median]],
                yerr=None if np.isnan(half) else half,
                fmt="o",
                color=colour,
                capsize=3,
                markersize=7,
                label=row.arm,
            )
        axes.set_xlim(left=0)
        axes.set_xlabel(f"training step of {rows[0].cost.batch_size} images (ms, median and quartiles)")
        axes.set_ylabel(f"{headline.label}, mean and 95 % interval")
        _legend(axes, "best")
        return _png(figure)


def _colours(rows: Sequence[Row]) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(len(rows))]


def _legend(axes: Any, where: str) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=where)


def _figure() -> tuple[Any, Any]:
    figure = need("matplotlib.figure", "look").Figure(figsize=(6.4, 4.2), layout="constrained")
    return figure, figure.add_subplot()


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()
