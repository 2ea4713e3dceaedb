"""How well the maps of a layer follow from one another by a cheap operation, and which of them to compute.

The cheap operations are one factor for the whole map (a scaled copy) and a depthwise convolution, both with a constant
added. Their best weights follow from sums of products over positions, which are all that is kept of the maps.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WhatwhereError

POSITIONS = 32
"""Positions that are looked at in a map of one image, at most; they are drawn at random."""
_RIDGE = 1e-4  # of the mean variance: keeps the weights small where neighbours are all alike


@dataclass(frozen=True)
class Positions:
    """Positions of the maps of a batch: image, row and column of each, ``int64 (P,)``."""

    image: Tensor
    row: Tensor
    column: Tensor

    @classmethod
    def draw(cls, maps: Tensor, generator: torch.Generator) -> "Positions":
        """Draw :data:`POSITIONS` positions in every image of maps ``(N, C, H, W)``, or take all where there are not
        more.
        """
        count, _, height, width = maps.shape
        kept = min(POSITIONS, height * width)
        drawn = torch.stack([torch.randperm(height * width, generator=generator)[:kept] for _ in range(count)])
        drawn = drawn.to(maps.device)
        image = torch.arange(count, device=maps.device)[:, None].expand(count, kept)
        return cls(image.flatten(), (drawn // width).flatten(), (drawn % width).flatten())

    def values(self, maps: Tensor) -> Tensor:
        """Return the values there, ``(P, C)`` in float64."""
        return maps[self.image, :, self.row, self.column].double()

    def neighbourhoods(self, maps: Tensor, size: int) -> Tensor:
        """Return the values around there, ``(P, C, size²)`` in float64; beyond the border they are 0."""
        margin = size // 2
        padded = F.pad(maps, (margin,) * 4)
        taps = [padded[self.image, :, self.row + a, self.column + b] for a in range(size) for b in range(size)]
        return torch.stack(taps, 2).double()


@dataclass
class PairSums:
    """Sums over positions of the maps of a layer (sources), their neighbours, and the maps to be made (targets)."""

    size: int
    count: int = 0
    neighbours: Tensor = field(default_factory=lambda: torch.zeros(()))
    targets: Tensor = field(default_factory=lambda: torch.zeros(()))
    squares: Tensor = field(default_factory=lambda: torch.zeros(()))
    within: Tensor = field(default_factory=lambda: torch.zeros(()))
    between: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, neighbours: Tensor, targets: Tensor) -> None:
        """Add the neighbourhoods ``(P, n, size²)`` of n sources and the values ``(P, n)`` of n targets."""
        self.count += len(targets)
        self.neighbours = self.neighbours + neighbours.sum(0)
        self.targets = self.targets + targets.sum(0)
        self.squares = self.squares + targets.square().sum(0)
        by_map = neighbours.transpose(0, 1)
        self.within = self.within + by_map.mT @ by_map
        self.between = self.between + neighbours.flatten(1).T @ targets

    def fits(self) -> "CheapFits":
        """Return the best cheap operation for every pair.

        Raises:
            WhatwhereError: there are fewer positions than numbers to fit, or values that are not finite.
        """
        if self.count <= 2 * self.size**2:
            raise WhatwhereError(
                f"data has {self.count} positions for {self.size**2 + 1} numbers a map: give more or larger images"
            )
        n = len(self.targets)
        source, target = self.neighbours / self.count, self.targets / self.count
        within = self.within / self.count - source[:, :, None] * source[:, None]
        between = self.between.view(n, -1, n) / self.count - source[:, :, None] * target
        variance = (self.squares / self.count - target.square()).clamp(min=0)
        constant = variance <= 1e-9 * (self.squares / self.count)
        return CheapFits.solve(within, between, variance.masked_fill(constant, 0), source, target)


@dataclass(frozen=True)
class CheapFits:
    """The best cheap operation from every map j of a layer to every map i of it, by least squares.

    Attributes:
        weights: of the depthwise convolutions, ``(n, size², n)``: source, tap, target.
        explained: R² of the depthwise fit, the share of the target's variance that it makes, ``(n, n)``: source,
            target. 1 where the target does not vary.
        copied: R² of the best scaled copy, likewise: the squared correlation.
        missed: share of its variance by which a target differs from the source of the same number, ``(n,)``.
        constant: whether a target does not vary, ``bool (n,)``.
        source: means of the sources' neighbours, ``(n, size²)``.
        target: means of the targets, ``(n,)``.
    """

    weights: Tensor
    explained: Tensor
    copied: Tensor
    missed: Tensor
    constant: Tensor
    source: Tensor
    target: Tensor

    @classmethod
    def solve(cls, within: Tensor, between: Tensor, variance: Tensor, source: Tensor, target: Tensor) -> "CheapFits":
        """Solve the normal equations of every pair.

        Args:
            within: covariances of each source's neighbours with each other, ``(n, size², size²)``.
            between: covariances of sources' neighbours and targets, ``(n, size², n)``.
            variance: of the targets, ``(n,)``; 0 where one does not vary.
            source: means of the sources' neighbours.
            target: means of the targets.
        """
        if not all(bool(part.isfinite().all()) for part in (within, between, variance, source, target)):
            raise WhatwhereError("there are maps or filters with NaN or infinity: nothing can be fitted to them")
        ridge = _RIDGE * within.diagonal(dim1=1, dim2=2).mean(1)
        ridge = ridge.clamp(min=torch.finfo(within.dtype).tiny ** 0.5)
        weights = torch.linalg.solve(
            within + ridge[:, None, None] * torch.eye(within.shape[1], dtype=within.dtype, device=within.device),
            between,
        )
        made = 2 * (between * weights).sum(1) - (weights * (within @ weights)).sum(1)
        constant = variance == 0
        safe = variance.masked_fill(constant, 1)
        centre = within.shape[1] // 2
        own = within[:, centre, centre]
        copied = between[:, centre].square() / (own.masked_fill(own <= 0, torch.inf)[:, None] * safe)
        return cls(
            weights.masked_fill(constant, 0),
            (made / safe).clamp(0, 1).masked_fill(constant, 1),
            copied.clamp(0, 1).masked_fill(constant, 1),
            ((variance - 2 * between[:, centre].diagonal() + own) / safe).clamp(0, 1).masked_fill(constant, 0),
            constant,
            source,
            target,
        )

    @classmethod
    def of_filters(cls, conv: nn.Conv2d, size: int) -> "CheapFits":
        """Return the fits that follow from a convolution's filters alone, as if its input were white noise.

        A depthwise convolution of a map is a sum of shifted copies of the map's filter, and these are fitted to the
        other filters. For 1×1 filters only the middle of the depthwise convolution is not 0.
        """
        weight = conv.weight.detach().double()
        n, channels = weight.shape[:2]
        extent = [d * (k - 1) + 1 for d, k in zip(conv.dilation, weight.shape[2:], strict=True)]
        spread = weight.new_zeros(n, channels, extent[0], extent[1])
        spread[:, :, :: conv.dilation[0], :: conv.dilation[1]] = weight
        reach = size // 2
        most = [2 * reach * stride for stride in conv.stride]
        wide = F.pad(spread, (most[1], most[1], most[0], most[0]))

        def shifted(down: int, right: int) -> Tensor:
            """Return the filters as a map moved by so many of its own positions sees them."""
            top, left = most[0] - down * conv.stride[0], most[1] - right * conv.stride[1]
            return wide[:, :, top : top + extent[0], left : left + extent[1]].flatten(1)

        flat = spread.flatten(1)
        taps = [(a - reach, b - reach) for a in range(size) for b in range(size)]
        between = torch.stack([shifted(*tap) @ flat.T for tap in taps], 1)
        steps = range(-2 * reach, 2 * reach + 1)
        auto = {(a, b): (shifted(a, b) * flat).sum(1) for a in steps for b in steps}
        within = torch.stack([torch.stack([auto[u[0] - v[0], u[1] - v[1]] for u in taps], 1) for v in taps], 1)
        bias = weight.new_zeros(n) if conv.bias is None else conv.bias.detach().double()
        return cls.solve(within, between, flat.square().sum(1), bias[:, None].expand(n, size**2), bias)

    def bias(self, source: int, target: int) -> Tensor:
        """Return the constant that the depthwise convolution from one map to another adds."""
        return self.target[target] - self.source[source] @ self.weights[source, :, target]

    def best_sources(self, by: Tensor) -> tuple[Tensor, Tensor]:
        """Return for every map the highest value that another map gives it in ``by``, and which map that is."""
        others = by.clone()
        others.fill_diagonal_(-1)
        found = others.max(0)
        return found.values, found.indices


def pair_up(explained: Tensor, ratio: int) -> dict[int, int]:
    """Choose which maps are made cheaply and from which: the best explained ones first.

    Of n maps, ⌈n / ratio⌉ stay primary: what is left when one map after the other, always the one that a map which
    stays or may still stay explains best, is given up. Each primary map serves ``ratio - 1`` others at most.

    Args:
        explained: ``(n, n)``, how much of target i source j explains, from 0 to 1.
        ratio: how many maps there are for each primary one.

    Returns:
        The source of each map that is given up.

    Example:
        >>> pair_up(torch.tensor([[1.0, 0.9, 0.1, 0.2], [0.8, 1, 0, 0.1], [0, 0.1, 1, 0.3], [0, 0, 0.4, 1]]), 2)
        {1: 0, 2: 3}
    """
    n = len(explained)
    primary = -(-n // ratio)
    order = explained.flatten().argsort(descending=True, stable=True).tolist()
    source: dict[int, int] = {}
    uses: dict[int, int] = {}
    for place in order:
        if len(source) == n - primary:
            break
        j, i = divmod(place, n)
        given_up = i == j or i in source or i in uses or j in source
        if given_up or uses.get(j, 0) >= ratio - 1 or (j not in uses and len(uses) == primary):
            continue
        source[i] = j
        uses[j] = uses.get(j, 0) + 1
    return source
