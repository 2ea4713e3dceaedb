"""Measures every attention: what it holds, what it changes at the start, how long it takes beside its authors' code."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import whatwhere as ww
from benchmarks.exact.__main__ import find_code
from benchmarks.exact.case import Case
from benchmarks.exact.compare import official
from whatwhere.cost import Measurement, count_multiply_adds, count_parameters, measure_in_turn
from whatwhere.layers import entry

CHANNELS, SIDE, IMAGES = 256, 14, 8
"""Parameters and multiply-adds are those of a map of 256 channels and 14 × 14 positions."""
TIMED = {64: 56, 128: 28, 256: 14}
"""Sides of the maps that are timed, by channels: those of ResNet's stages."""


@dataclass(frozen=True)
class Facts:
    """What was measured of one attention.

    Attributes:
        parameters: at 256 channels.
        multiply_adds: of one image.
        start: ‖y - x‖/‖x‖ of the official start, on normal random numbers.
        channels: of the maps that were timed.
        side: of the maps that were timed.
        milliseconds: medians of a forward and a backward pass over 8 images by contender: ``copy``, ``ours``,
            ``official``.
        spread: half the distance of the quartiles, in percent, by contender.
        official: ``owner/name@commit`` of the code that ``official`` is; empty where there is none.
    """

    parameters: int
    multiply_adds: int
    start: float
    channels: int
    side: int
    milliseconds: dict[str, float]
    spread: dict[str, float]
    official: str = ""


def measure(name: str, case: Case | None, repositories: Path, seconds: float) -> dict[str, Any]:
    """Return the :class:`Facts` of one attention as a dictionary.

    Args:
        name: of the attention.
        case: its official code, or None.
        repositories: where clones of official code are.
        seconds: how long each contender is timed.
    """
    torch.manual_seed(0)
    attention = ww.create(name, CHANNELS).eval()
    x = torch.randn(IMAGES, CHANNELS, SIDE, SIDE)
    with torch.no_grad():
        start = float((attention(x) - x).norm() / x.norm())
    channels = CHANNELS if case is None else case.channels
    side = TIMED.get(channels, SIDE)
    ours = ww.create(name, channels, **({} if case is None else case.options))
    modules: dict[str, Callable[[Tensor], Tensor]] = {"copy": torch.clone, "ours": ours}
    code = ""
    if case is not None:
        version, sources = find_code(repositories, case)
        code = f"{case.repository} {version}" if case.installed else f"{case.repository}@{version[:7]}"
        theirs = official(case, sources)
        case.load(ours, theirs.state_dict())
        modules["official"] = lambda u: case.apply(theirs, u)
    maps = torch.randn(IMAGES, channels, side, side)
    found = measure_in_turn(
        {who: _step(module, maps) for who, module in modules.items()}, torch.device("cpu"), seconds * len(modules)
    )
    timed: dict[str, Measurement] = {who: one for who, one in found.items() if one.failure is None}
    return asdict(
        Facts(
            count_parameters(attention),
            count_multiply_adds(attention, (CHANNELS, SIDE, SIDE)),
            start,
            channels,
            side,
            {who: one.timing.median for who, one in timed.items()},
            {who: one.timing.spread for who, one in timed.items()},
            code,
        )
    )


def names_by_kind() -> list[str]:
    """Return the names of all attentions, those of one kind together."""
    order = ["channel", "spatial", "both", "line", "full", "residual", "replacing", "permuting"]
    return sorted(ww.names(), key=lambda name: (order.index(entry(name).kind), name))


def _step(module: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    if isinstance(module, nn.Module):
        module.train()
    x = x.clone().requires_grad_()
    gradient = torch.randn_like(x)

    def step() -> None:
        x.grad = None
        module(x).backward(gradient)

    return step
