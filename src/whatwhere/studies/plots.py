"""The plots of a study: paired differences, power, learning curves, and the headline metric against measured time."""

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import need
from .power import POWER, smallest_visible
from .results import Results
from .statistics import FEWEST, spread
from .verdicts import margin_text

# Okabe and Ito's colours: told apart by colour-blind readers too. A marker each besides.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
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


@dataclass(frozen=True)
class Plot:
    """A figure of the report.

    Attributes:
        name: its file, without ``.png``.
        caption: what it is.
        alt: what it shows, for those who do not see it.
        png: the image.
    """

    name: str
    caption: str
    alt: str
    png: bytes


def draw_all(results: Results) -> list[Plot]:
    """Return all plots that a study's results allow, the most important ones first."""
    plots = [draw_differences(results), draw_power(results), draw_curves(results), draw_time(results)]
    return [plot for plot in plots if plot is not None]


def draw_differences(results: Results) -> Plot | None:
    """Draw each network's difference to plain: a dot a seed, the mean, and both intervals. None without a pair."""
    rows = [row for row in results.compared if row.difference is not None]
    if not rows:
        return None
    headline, unit = results.headline, results.headline.difference_unit or results.headline.unit
    with need("matplotlib", "look").rc_context(STYLE):
        figure, axes = _figure(height=1.5 + 0.55 * len(rows))
        margin = results.rules.margin
        if margin > 0:
            axes.axvspan(-margin, margin, color="#eef3f7", zorder=0)
        axes.axvline(0, color="#555555", linewidth=1)
        for y, row in enumerate(reversed(rows)):
            index = results.rows.index(row)
            colour = _colour(index)
            _bar(axes, y - 0.16, row.images, colour, width=1.2)
            _bar(axes, y, row.difference, colour, width=3.2)
            axes.plot(row.difference.mean, y, MARKERS[index % len(MARKERS)], color=colour, markersize=8)  # type: ignore[union-attr]
            axes.plot(row.differences, np.full(len(row.differences), y + 0.2), "o", mfc="none", color=colour, ms=4)
        axes.set_yticks(range(len(rows)), [row.arm for row in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"difference to plain ({unit})" if unit else "difference to plain")
        png = _png(figure)
    second = "; thin: for other test images too" if results.has_images else ""
    band = f"; shaded: ±{margin_text(results.rules)}" if margin > 0 else ""
    caption = (
        f"Paired differences in {headline.title}. Circles: single seeds; thick: mean with its {results.percent} "
        f"interval over seeds{second}{band}."
    )
    shown = [
        f"{row.arm} {headline.number(d.mean, sign=True)}"
        + (
            ""
            if math.isnan(d.half)
            else f" ({headline.number(d.low, sign=True)} to {headline.number(d.high, sign=True)})"
        )
        for row in rows
        if (d := row.difference)
    ]
    return Plot("differences", caption, f"Differences to plain in {unit or headline.title}: {'; '.join(shown)}.", png)


def draw_power(results: Results) -> Plot | None:
    """Draw the smallest true difference that a number of seeds shows, for each network. None without a spread."""
    headline, plan = results.headline, results.rules.plan
    known = [(row, spread(np.asarray(row.differences), results.rules.step)) for row in results.compared]
    known = [(row, s) for row, s in known if len(row.differences) >= FEWEST and not math.isnan(s)]
    if not known:
        return None
    alpha = plan.nominal(plan.alpha / len(results.compared))
    most = max(12, 2 * max(len(row.differences) for row, _ in known))
    seeds = np.unique(np.linspace(FEWEST, most, 14).round().astype(int))
    unit = headline.difference_unit or headline.unit
    shown = []
    with need("matplotlib", "look").rc_context(STYLE):
        figure, axes = _figure()
        unit_curve = np.array([smallest_visible(1.0, int(n), alpha) for n in seeds])
        for row, s in known:
            index = results.rows.index(row)
            axes.plot(seeds, s * unit_curve, color=_colour(index), linewidth=1.8, label=row.arm)
            here = s * smallest_visible(1.0, len(row.differences), alpha)
            axes.plot(len(row.differences), here, MARKERS[index % len(MARKERS)], color=_colour(index), markersize=8)
            shown.append(f"{row.arm} {headline.number(here)} with {len(row.differences)}")
        axes.set_ylim(0, 1.1 * max(s for _, s in known) * unit_curve[min(2, len(unit_curve) - 1)])
        axes.set_xlabel("seeds")
        axes.set_ylabel(f"smallest visible difference ({unit})" if unit else "smallest visible difference")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="upper right")
        png = _png(figure)
    caption = (
        f"How many seeds show which difference, with a chance of {100 * POWER:.0f} %, the spread being what it was "
        "here; marked: the seeds of this study. The correction for several networks"
        f"{' and looks' if len(plan.counts) > 1 else ''} is counted in."
    )
    return Plot(
        "power", caption, f"Smallest visible difference in {unit or headline.title}: {'; '.join(shown)} seeds.", png
    )


def draw_curves(results: Results) -> Plot:
    """Draw the headline metric after each epoch, mean over seeds, each seed thin behind it."""
    rows, headline = results.rows, results.headline
    with need("matplotlib", "look").rc_context(STYLE):
        figure, axes = _figure()
        for index, row in enumerate(rows):
            if not row.curves:
                continue
            epochs = np.arange(1, len(row.curves[0]) + 1)
            for curve in row.curves:
                axes.plot(epochs, curve, color=_colour(index), alpha=0.18, linewidth=0.9)
            style = "--" if row.arm in ("plain", "wider", "narrower") else "-"
            marker = MARKERS[index % len(MARKERS)]
            mean = np.mean(row.curves, 0)
            axes.plot(epochs, mean, style, color=_colour(index), linewidth=2, marker=marker, ms=4.5, label=row.arm)
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{headline.title} on test images{f' ({headline.unit})' if headline.unit else ''}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _legend(axes, "lower right" if headline.higher_is_better else "upper right")
        png = _png(figure)
    ends = _means(results)
    return Plot(
        "curves", "Learning curves: mean over seeds, single seeds thin", f"{headline.heading} by epoch. {ends}", png
    )


def draw_time(results: Results) -> Plot | None:
    """Draw the headline metric with its interval against the time of a training step with its quartiles. None where no
    times were measured.
    """
    rows, headline = results.rows, results.headline
    if not any(row.timed for row in rows):
        return None
    with need("matplotlib", "look").rc_context(STYLE):
        figure, axes = _figure()
        for index, row in enumerate(rows):
            if row.headline is None:
                continue
            step = row.cost.step
            half = row.headline.half
            axes.errorbar(
                step.median,
                row.headline.mean,
                xerr=[[step.median - step.low], [step.high - step.median]],
                yerr=None if np.isnan(half) else half,
                fmt=MARKERS[index % len(MARKERS)],
                color=_colour(index),
                capsize=3,
                markersize=7,
                label=row.arm,
            )
        axes.set_xlim(left=0)
        axes.set_xlabel(f"training step of {rows[0].cost.batch_size} images (ms, median and quartiles)")
        axes.set_ylabel(f"{headline.label}, mean and {results.percent} interval")
        _legend(axes, "best")
        png = _png(figure)
    steps = ", ".join(f"{row.arm} {row.cost.step.median:.1f} ms" for row in rows)
    caption = f"{headline.heading} against the measured time of a training step"
    return Plot("time", caption, f"{_means(results)} Training step: {steps}.", png)


def _means(results: Results) -> str:
    ends = [f"{row.arm} {results.headline.with_unit(row.headline.mean)}" for row in results.rows if row.headline]
    return f"After the last epoch: {', '.join(ends)}." if ends else "No run was finished."


def _bar(axes: Any, y: float, found: Any, colour: str, width: float) -> None:
    """Draw an interval as a line with ends, where there is one."""
    if found is None or math.isnan(found.half):
        return
    axes.errorbar(found.mean, y, xerr=found.half, fmt="none", ecolor=colour, elinewidth=width, capsize=3)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _legend(axes: Any, where: str) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=where)


def _figure(height: float = 4.2) -> tuple[Any, Any]:
    figure = need("matplotlib.figure", "look").Figure(figsize=(6.4, height), layout="constrained")
    return figure, figure.add_subplot()


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()
