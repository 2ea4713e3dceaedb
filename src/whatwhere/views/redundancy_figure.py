"""The figure of a measurement of redundancy: pairs of maps of three layers, and R² from layer to layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import panels
from .redundancy_result import Pair, Redundancy

PAIRS = 2
"""Pairs that are shown of a layer."""
_WIDTH = 7.2  # inches
_MARGIN, _GAP = 0.12, 0.06
_IMAGE = 1.1
_HEAD, _CAPTION = 0.27, 0.20  # inches for the heading above a row of maps and the captions below
_CURVES, _BETWEEN, _LEGEND, _AXIS = 1.25, 0.3, 0.55, 0.45
_STYLES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", "-."), ("#cc79a7", ":"))  # told apart without colour too


def thirds(pairs: Mapping[str, Sequence[Pair]]) -> list[str]:
    """Choose three convolutions: of the early, the middle and the late ones those with the best pairs.

    Example:
        >>> import torch
        >>> pairs = {f"conv{i}": [Pair(0, 1, r2, *torch.zeros(3, 9, 9))] for i, r2 in enumerate((0.1, 0.9, 0.2, 0.8))}
        >>> thirds(pairs)
        ['conv1', 'conv2', 'conv3']
    """
    names = [name for name, found in pairs.items() if found]
    parts = [part.tolist() for part in np.array_split(np.arange(len(names)), 3) if len(part)]
    best = {name: float(np.mean([pair.r2 for pair in pairs[name]])) for name in names}
    return [names[max(part, key=lambda i: best[names[i]])] for part in parts]


def draw(found: Redundancy, beside: Mapping[str, Redundancy], name: str) -> Any:
    """Draw ``found`` as a matplotlib ``Figure``, without a display and without matplotlib's global state."""
    import matplotlib

    with matplotlib.rc_context(panels.STYLE):
        return _draw(found, beside, name)


def _draw(found: Redundancy, beside: Mapping[str, Redundancy], name: str) -> Any:
    from matplotlib.figure import Figure

    left = _MARGIN + _IMAGE + 0.2
    middle = 0.25  # between two pairs
    side = (_WIDTH - _MARGIN - left - middle * (PAIRS - 1) - _GAP * 2 * PAIRS) / (3 * PAIRS)
    row = _HEAD + side + _CAPTION
    shown = thirds(found.pairs)
    top = _MARGIN + max(row * len(shown), (_HEAD + _IMAGE + _CAPTION) if shown else 0)
    height = top + _LEGEND + 2 * _CURVES + _BETWEEN + _AXIS
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")

    def axes(x: float, y: float, width: float, tall: float) -> Any:
        return figure.add_axes((x / _WIDTH, 1 - (y + tall) / height, width / _WIDTH, tall / height))

    if shown:
        place = axes(_MARGIN, _MARGIN + _HEAD, _IMAGE, _IMAGE)
        _show(place, _displayed(found.image.numpy()), "image", cmap="gray")
        text = "Of an early, a middle\nand a late layer, the\nmaps that another map\nexplains best. The fit is\n"
        text += "a depthwise 3×3 convo-\nlution of the source.\n"
        text += f"R² is over {found.images} images."
        figure.text(
            _MARGIN / _WIDTH, 1 - (_MARGIN + _HEAD + _IMAGE + 0.3) / height, text, size=6.5, va="top",
            color=panels.GREY, linespacing=1.35,
        )  # fmt: skip
    for number, module in enumerate(shown):
        layer, y = found[module], _MARGIN + number * row
        head = figure.text(left / _WIDTH, 1 - (y + 0.15) / height, _shorten(module), size=8, weight="bold", va="center")
        after = left + head.get_window_extent().width / figure.dpi + 0.08
        rest = f"{layer.maps} maps of {layer.size[0]}×{layer.size[1]}, after the {found.after}"
        figure.text(after / _WIDTH, 1 - (y + 0.15) / height, rest, size=7.5, va="center", color=panels.GREY)
        for place_of_pair, pair in enumerate(found.pairs[module]):
            x = left + place_of_pair * (3 * side + 2 * _GAP + middle)
            _pair([axes(x + i * (side + _GAP), y + _HEAD, side, side) for i in range(3)], pair)

    named = {name: found, **beside}
    order = {layer.module: number for number, layer in enumerate(found.layers)}
    kinds = (("copied", "by one factor (a scaled copy)"), ("filtered", "by a depthwise 3×3 convolution"))
    for number, (kind, title) in enumerate(kinds):
        place = axes(0.5, top + _LEGEND + number * (_CURVES + _BETWEEN), _WIDTH - 0.5 - _MARGIN, _CURVES)
        for (color, line), (label, one) in zip(_STYLES, named.items(), strict=False):
            _curve(place, one, kind, order, color, line, label)
        place.set_title(title, size=8, color=panels.INK, pad=4, loc="left")
        _frame(place, len(order))
        if number:
            place.set_xlabel("convolution, in the order in which they run")
        else:
            place.set_xticklabels([])
    text = "R² of a map from the best other map of its layer: median and quartiles"
    figure.text(_MARGIN / _WIDTH, 1 - (top + 0.13) / height, text, size=8, weight="bold", va="center")
    if beside:
        figure.legend(
            *place.get_legend_handles_labels(), loc="center right",
            bbox_to_anchor=(1 - _MARGIN / _WIDTH, 1 - (top + 0.13) / height),
            ncols=len(named), frameon=False, fontsize=7.5, borderaxespad=0, borderpad=0, handlelength=2.4,
        )  # fmt: skip
    return figure


def _pair(places: Sequence[Any], pair: Pair) -> None:
    target = pair.target_map.numpy()
    low, high = float(target.min()), float(target.max())
    limits = {"vmin": low, "vmax": high if high > low else low + 1}
    _show(places[0], pair.source_map.numpy(), f"source: {pair.source}")
    _show(places[1], target, f"map {pair.target}", **limits)
    _show(places[2], pair.made.numpy(), f"fit, {_r2(pair.r2)}", **limits)


def _r2(value: float) -> str:
    return "R² > 0.99" if value >= 0.995 else f"R² {value:.2f}"


def _show(axes: Any, values: NDArray[Any], caption: str, **options: Any) -> None:
    axes.imshow(values, interpolation="nearest", **{"cmap": "viridis", "aspect": "auto", **options})
    axes.set_xticks([])
    axes.set_yticks([])
    below = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center", "va": "baseline"}
    axes.annotate(caption, (0.5, 0), (0, -9), size=6.5, color=panels.INK, **below)


def _displayed(image: NDArray[Any]) -> NDArray[Any]:
    """Return a normalised image ``(C, H, W)`` in the range that can be shown."""
    chosen = image.transpose(1, 2, 0) if len(image) == 3 else image[0]
    low, high = float(chosen.min()), float(chosen.max())
    return np.asarray((chosen - low) / (high - low if high > low else 1))


def _curve(
    axes: Any, found: Redundancy, kind: str, order: Mapping[str, int], color: str, line: str, label: str
) -> None:
    """Draw median and quartiles of the layers; ``order`` has the place of each convolution."""
    layers = [layer for layer in found.layers if layer.module in order]
    x = [order[layer.module] + 1 for layer in layers]
    low, median, high = np.array([getattr(layer, kind).quartiles for layer in layers]).reshape(-1, 3).T
    axes.fill_between(x, low, high, color=color, alpha=0.16, linewidth=0)
    axes.plot(x, median, line, color=color, linewidth=1.2, marker="o", markersize=2.4, label=label)


def _frame(axes: Any, count: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_ylim(0, 1.02)
    axes.set_xlim(0.5, max(count, 1) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.grid(axis="y", color=panels.PALE, linewidth=0.5)
    axes.set_axisbelow(True)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)


def _shorten(name: str) -> str:
    return name if len(name) <= 40 else f"…{name[-39:]}"
