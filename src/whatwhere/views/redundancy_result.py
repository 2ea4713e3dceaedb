"""The result of :func:`redundancy`."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..tables import table
from .result import figure_png, save_figure

After = Literal["activation", "convolution"]
"""Where maps are measured: what a convolution gives, or what batch normalisation and activation make of it."""
THRESHOLD = 0.9
"""R² from which a map counts as nearly a function of another."""


@dataclass(frozen=True)
class BestSources:
    """For each map of a layer the other map that one kind of operation makes it from best.

    Attributes:
        r2: share of the map's variance that the operation makes, from 0 to 1; NaN where the map is constant.
        source: index of the other map, ``int64``; -1 where the map is constant.

    Example:
        >>> import torch
        >>> best = BestSources(torch.tensor([0.95, 0.5, float("nan"), 0.3]), torch.tensor([1, 0, -1, 1]))
        >>> best.median, round(best.share(), 2)
        (0.5, 0.33)
    """

    r2: Tensor
    source: Tensor

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Quartiles of R² over the maps that are not constant; NaN where all are."""
        a, b, c = (float(self.r2.nanquantile(q)) for q in (0.25, 0.5, 0.75))
        return a, b, c

    @property
    def median(self) -> float:
        """Median of R² over the maps that are not constant."""
        return self.quartiles[1]

    def share(self, threshold: float = THRESHOLD) -> float:
        """Return the share of the maps that are not constant whose R² is at least ``threshold``."""
        known = self.r2[~self.r2.isnan()]
        return float((known >= threshold).double().mean()) if len(known) else math.nan


@dataclass(frozen=True)
class LayerRedundancy:
    """How well the maps of one convolution follow from one another.

    Attributes:
        module: name of the convolution.
        measured_at: name of the module whose output was measured.
        maps: how many maps there are.
        size: (H, W) of them.
        positions: how many positions of all images the fits are over.
        constant: how many maps are the same everywhere in all images (dead).
        copied: by a factor and a constant.
        filtered: by a depthwise 3×3 convolution and a constant.

    Example:
        >>> import torch
        >>> best = BestSources(torch.tensor([0.95, 0.95]), torch.tensor([1, 0]))
        >>> LayerRedundancy("conv1", "relu", 2, (56, 56), 2048, 0, best, best).filtered.median
        0.949999988079071
    """

    module: str
    measured_at: str
    maps: int
    size: tuple[int, int]
    positions: int
    constant: int
    copied: BestSources = field(repr=False)
    filtered: BestSources = field(repr=False)


@dataclass(frozen=True)
class Pair:
    """A map of one image, the map it is made from by a depthwise 3×3 convolution, and what that makes.

    Attributes:
        source: index of the map it is made from.
        target: index of the map.
        r2: of the convolution, over all images.
        source_map: ``(H, W)``, in the image.
        target_map: likewise.
        made: likewise, by the convolution from the source.

    Example:
        >>> Pair(3, 5, 0.97, torch.rand(7, 7), torch.rand(7, 7), torch.rand(7, 7)).target
        5
    """

    source: int
    target: int
    r2: float
    source_map: Tensor = field(repr=False)
    target_map: Tensor = field(repr=False)
    made: Tensor = field(repr=False)


@dataclass(frozen=True)
class Redundancy:
    """How many maps of each layer are nearly a cheap function of another one; ``str(found)`` is a table.

    Attributes:
        layers: in the order in which the convolutions run.
        after: where the maps were measured.
        images: how many images they were measured on.
        pairs: the best explained maps of each layer among those that are not nearly empty in ``image``, by the name of
            the convolution.
        image: the image that the pairs are of, as the network took it, ``(C, H, W)``.
        figure: a matplotlib ``Figure``.

    Example: see :func:`redundancy`.

        >>> Redundancy([], "activation", 16, {}, torch.zeros(3, 8, 8)).images
        16
    """

    layers: list[LayerRedundancy]
    after: After
    images: int
    pairs: dict[str, list[Pair]] = field(repr=False)
    image: Tensor = field(repr=False)
    figure: Any = field(default=None, repr=False)

    def __getitem__(self, module: str) -> LayerRedundancy:
        """Return the layer of a convolution, by its name."""
        for layer in self.layers:
            if layer.module == module:
                return layer
        raise KeyError(f"{module!r} was not measured")

    def share(self, threshold: float = THRESHOLD) -> tuple[float, float]:
        """Return the shares of all maps whose R² is at least ``threshold``: by a copy, by a depthwise convolution."""
        copied, filtered = (
            BestSources(torch.cat([getattr(layer, kind).r2 for layer in self.layers]), torch.empty(0)).share(threshold)
            for kind in ("copied", "filtered")
        )
        return copied, filtered

    def __str__(self) -> str:
        """Return the table, and what its columns mean."""
        rows = []
        for layer in self.layers:
            row = [layer.module, str(layer.maps), f"{layer.size[0]}×{layer.size[1]}", str(layer.constant)]
            for best in (layer.copied, layer.filtered):
                row += [_number(best.median, 2), _number(100 * best.share(), 0)]
            rows.append([*row, str(layer.positions)])
        titles = ["convolution", "maps", "size", "constant", "copy: R²", "% ≥ 0.9"]
        titles += ["depthwise: R²", "% ≥ 0.9", "positions"]
        copied, filtered = self.share()
        constant = sum(layer.constant for layer in self.layers)
        total = [f"{len(self.layers)} layers", str(sum(layer.maps for layer in self.layers)), "", str(constant)]
        total += ["", _number(100 * copied, 0), "", _number(100 * filtered, 0), ""]
        return (
            f"{table(titles, rows, total=total)}\n"
            f"maps after the {self.after}, on {self.images} images. R²: the median over the maps that are not "
            "constant,\neach from the best other map of its layer, by a factor (copy) or by a depthwise 3×3 convolution"
        )

    def _repr_png_(self) -> bytes | None:
        return figure_png(self.figure)

    def save(self, path: str | os.PathLike[str], *, dpi: int = 140) -> Path:
        """Write the figure as PNG, PDF or SVG, whole or not at all, and return the path. Missing folders are made.

        Raises:
            WhatwhereError: another suffix, or a path that cannot be written.
        """
        return save_figure(self.figure, path, dpi=dpi)


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
