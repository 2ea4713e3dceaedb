"""How much the channel gates of a network move from image to image."""

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError
from ..graph.batches import Batches
from ..layers import GatedAttention
from ..views import capture

FEWEST = 16
"""Images below which nothing is said about movement."""


class Movement:
    """Mean, standard deviation and range of each channel's gate over the images seen so far.

    Sums are of differences to the first image's gates, in float64: gates that do not move have a standard deviation of
    exactly 0.
    """

    def __init__(self, first: Tensor) -> None:
        self.start = first.double()
        self.count = 0
        self.total = torch.zeros_like(self.start)
        self.squares = torch.zeros_like(self.start)
        self.low = self.start.clone()
        self.high = self.start.clone()

    def add(self, gates: Tensor) -> None:
        """Add gates ``(N, C)``."""
        gates = gates.double()
        apart = gates - self.start
        self.count += len(gates)
        self.total += apart.sum(0)
        self.squares += apart.square().sum(0)
        self.low = torch.minimum(self.low, gates.amin(0))
        self.high = torch.maximum(self.high, gates.amax(0))

    @property
    def mean(self) -> Tensor:
        """The mean gate of each channel, ``(C,)`` in float64."""
        return self.start + self.total / self.count

    @property
    def deviation(self) -> Tensor:
        """The standard deviation of each channel's gate over the images, ``(C,)`` in float64."""
        return (self.squares / self.count - (self.total / self.count).square()).clamp_min(0).sqrt()

    @property
    def relative(self) -> float:
        """The largest standard deviation of a channel as a share of the mean gate; :func:`whatwhere.fold` bounds it."""
        largest, mean = float(self.deviation.max()), float(self.mean.mean())
        return largest / mean if mean > 0 else 0.0 if largest == 0 else float("inf")


class SiteMovement:
    """What was seen at one site.

    Attributes:
        attention: the attention at the site.
        kinds: which of ``channel``, ``spatial``, ``full`` its gates have.
        movement: of its channel gates, None where it has none.
        calls: how often it ran in a pass, the most; 0 where it never ran.
    """

    def __init__(self, attention: GatedAttention) -> None:
        self.attention = attention
        self.kinds: tuple[str, ...] = ()
        self.movement: Movement | None = None
        self.calls = 0


def watch(
    model: nn.Module, data: Batches, layers: Iterable[str] = ()
) -> tuple[dict[str, SiteMovement], int, dict[str, Tensor]]:
    """Run ``model`` (in evaluation mode) over ``data``.

    Returns:
        What was seen by site; the number of images; what went into ``layers``, of two images.

    Raises:
        WhatwhereError: no attention in the model, fewer than 16 images, gates that are not finite.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    count = 0
    with torch.no_grad(), capture(model) as seen, ExitStack() as undo:
        sites = {name: SiteMovement(attention) for name, attention in seen.attentions.items()}
        calls: Counter[str] = Counter()
        kept: dict[str, Tensor] = {}
        for name, site in sites.items():
            undo.callback(site.attention.register_forward_hook(_counter(calls, name)).remove)
        for name in layers:
            undo.callback(model.get_submodule(name).register_forward_pre_hook(_keeper(kept, name)).remove)
        for images, _ in data:
            calls.clear()
            model(images.to(device))
            count += len(images)
            for name, gates in seen.items():
                sites[name].calls = max(sites[name].calls, calls[name])
                sites[name].kinds = tuple(kind for kind, gate in gates._asdict().items() if gate is not None)
                if gates.channel is not None:
                    _add(sites[name], name, gates.channel.flatten(1).cpu())
    if count < FEWEST:
        raise WhatwhereError(
            f"{data.name} has {count} images: how much gates move cannot be told from fewer than {FEWEST}; "
            "give some hundreds like those that the network is for"
        )
    return sites, count, kept


def _add(site: SiteMovement, name: str, gates: Tensor) -> None:
    if not gates.isfinite().all():
        raise WhatwhereError(f"the gates at {name} are not all finite: look at the images and the weights")
    if site.movement is None:
        site.movement = Movement(gates[0])
    site.movement.add(gates)


def _counter(calls: Counter[str], name: str) -> Any:
    def count(*_: Any) -> None:
        calls[name] += 1

    return count


def _keeper(kept: dict[str, Tensor], name: str) -> Any:
    def keep(_: nn.Module, args: tuple[Any, ...]) -> None:
        if name not in kept and args and isinstance(args[0], Tensor):
            kept[name] = args[0][:2].detach().clone()

    return keep
