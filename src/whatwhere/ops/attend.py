"""Whole attentions on the moves: squeeze, excite, squeeze, excite, apply_gates, with one pass in the backward that writes the map's gradient."""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WhatwhereError
from . import moves, reference
from .backends import REFERENCE, choose
from .derivatives import accumulator
from .glance import glance
from .glance import serves as serves_whole
from .norm import Normal, normalise, takes_statistics
from .steps import Step

_SPACE_ROWS = {"avg": 0, "max": 1, "lp": 2}
_CHANNEL_ROWS = {"max": 0, "avg": 1}


@functools.wraps(reference.squeeze_space)
def squeeze_space(x: Tensor, pools: Sequence[str], spatial: Tensor | None = None) -> Tensor:
    """Squeeze over space on the fastest backend."""
    if spatial is not None or not _serves(pools, _SPACE_ROWS) or choose(x) == REFERENCE:
        return reference.squeeze_space(x, pools, spatial)
    kinds = _kinds(pools)
    thread = moves.open_map(x, None, kinds)
    stats = moves.squeeze_space(x, None, None, kinds, "max" in pools, thread)
    return _space_pools(stats, pools, x, None)


@functools.wraps(reference.squeeze_channels)
def squeeze_channels(x: Tensor, pools: Sequence[str], channel: Tensor | None = None) -> Tensor:
    """Squeeze over channels on the fastest backend."""
    if not _serves(pools, _CHANNEL_ROWS) or choose(x) == REFERENCE:
        return reference.squeeze_channels(x, pools, channel)
    found = moves.squeeze_channels(x, None, _flat(channel, x), None, moves.open_map(x))
    return _rows(found, [_CHANNEL_ROWS[pool] for pool in pools]).to(x.dtype)


@functools.wraps(reference.apply_gates)
def apply_gates(
    x: Tensor,
    channel: Tensor | None = None,
    spatial: Tensor | None = None,
    full: Tensor | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Excite on the fastest backend."""
    few = (channel is not None) + (spatial is not None) + (residual is not None) + relu == 0
    if full is not None or few or choose(x) == REFERENCE:
        return reference.apply_gates(x, channel, spatial, full, residual, relu)
    residual = _residual(residual, x)
    return moves.apply_gates(x, None, _flat(channel, x), None, _small(spatial, x), residual, relu, moves.open_map(x))


def filter_maps(maps: Tensor, weight: Tensor) -> Tensor:
    """Return the convolution of few maps with a large kernel that keeps their size, without bias.

    Args:
        maps: ``(N, P, H, W)``.
        weight: ``(O, P, k, k)``, k odd.

    Returns:
        ``(N, O, H, W)`` in the dtype of ``maps``, or of autocast.
    """
    maps = maps.contiguous()
    if maps.device.type != "cpu" or torch.is_autocast_enabled("cpu") or choose(maps) == REFERENCE:
        return F.conv2d(maps, weight, padding=weight.shape[-1] // 2)
    small = accumulator(maps)
    return moves.filter_maps(maps.to(small), weight.to(small)).to(maps.dtype)


def gates(x: Tensor, steps: Sequence[Step]) -> tuple[Tensor | None, Tensor | None]:
    """Return the channel gate and the spatial gate of an attention's steps, each for the map times the gates before it."""
    channel = spatial = None
    for step in steps:
        if step.kind == "channel":
            channel = step.excite(squeeze_space(x, step.pools, spatial))
        else:
            maps = squeeze_channels(x, step.pools, channel) if step.squeeze is None else step.squeeze(x, channel)
            spatial = step.excite(maps)
    return channel, spatial


def attend(
    x: Tensor,
    steps: Sequence[Step],
    *,
    norm: nn.BatchNorm2d | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Return :math:`relu(u \\cdot channel \\cdot spatial + residual)`, where u is x, or norm(x), and the gates are those of the steps.

    Args:
        x: map, ``(N, C, H, W)``.
        steps: one or two, a channel step and a spatial step in the order in which they look at the map; may be empty.
        norm: a batch normalisation of the map before the attention, in training (its running statistics are kept up) or evaluation.
        residual: map like ``x`` that is added after the gates.
        relu: whether negative results become 0.

    Returns:
        ``(N, C, H, W)`` in the dtype of ``x``: what the steps give one after the other, to rounding.
    """
    kinds = tuple(step.kind for step in steps)
    served = kinds in ((), ("channel",), ("spatial",), ("channel", "spatial")) and all(
        _serves(step.pools, _SPACE_ROWS if step.kind == "channel" else _CHANNEL_ROWS) for step in steps
    )
    alone = norm is None and len(steps) == 0
    if alone or not served or choose(x) == REFERENCE or (norm is not None and not Normal.serves(norm, x)):
        u = x if norm is None else type(norm).forward(norm, x)
        channel, spatial = gates(u, steps)
        return apply_gates(u, channel, spatial, None, residual, relu)
    residual = _residual(residual, x)
    first = steps[0] if steps and steps[0].kind == "channel" else None
    second = steps[-1] if steps and steps[-1].kind == "spatial" else None
    return _attend(x, first, second, norm, residual, relu)


def _attend(
    x: Tensor, what: Step | None, where: Step | None, norm: nn.BatchNorm2d | None, residual: Tensor | None, relu: bool
) -> Tensor:
    if (norm is None or not takes_statistics(norm)) and serves_whole(x, what, where):
        return glance(x, what, where, None if norm is None else normalise(norm, x, 0, False)[0], residual, relu)
    kinds = 0 if what is None else _kinds(what.pools)
    peaks = what is not None and "max" in what.pools
    normal: Normal | None = None
    if norm is None:
        thread, shift = moves.open_map(x, None, kinds), None
        stats = None if what is None else moves.squeeze_space(x, None, None, kinds, peaks, thread)
    else:
        normal, stats, thread = normalise(norm, x, kinds, peaks)
        shift = normal.shift
    scale, bias = (None, None) if normal is None else normal.spread(x.shape[0])
    if what is not None:
        assert stats is not None
        gate = _flatten(what.excite(_space_pools(stats, what.pools, x, normal)), x)
        scale, bias = (gate, None) if normal is None else (normal.scale * gate, normal.bias * gate)
    spatial = None
    if where is not None:
        found = moves.squeeze_channels(x, shift, scale, bias, thread)
        spatial = _small(where.excite(_rows(found, [_CHANNEL_ROWS[pool] for pool in where.pools]).to(x.dtype)), x)
    return moves.apply_gates(x, shift, scale, bias, spatial, residual, relu, thread)


def _space_pools(stats: Tensor, pools: Sequence[str], x: Tensor, normal: Normal | None) -> Tensor:
    """Return ``(N, P, C)`` of what the squeeze over space found, of w or, with a norm, of u = w · scale + bias."""
    if "lp" not in pools:
        found = _rows(stats, [_SPACE_ROWS[pool] for pool in pools])
        return (found if normal is None else torch.addcmul(normal.bias, found, normal.scale)).to(x.dtype)
    mean, peak, squares = stats.unbind(1)
    if normal is not None:
        a, b = normal.scale, normal.bias
        mean, peak, squares = a * mean + b, a * peak + b, a * a * squares + b * (2 * a * mean + b)
    sums = squares * (x.shape[2] * x.shape[3])
    length = torch.where(sums > 0, torch.where(sums > 0, sums, 1).sqrt(), torch.where(sums <= 0, 0, sums))
    return torch.stack([{"avg": mean, "max": peak, "lp": length}[pool] for pool in pools], 1).to(x.dtype)


def _kinds(pools: Sequence[str]) -> int:
    """Return how many of mean, peak and mean square the squeeze over space has to find."""
    return 3 if "lp" in pools else 2 if "max" in pools else 1


def _rows(found: Tensor, rows: list[int]) -> Tensor:
    """Return the rows asked for: a slice where they lie in order."""
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return found if len(rows) == found.shape[1] else found[:, rows[0] : rows[0] + len(rows)]
    return torch.stack([found[:, row] for row in rows], 1)


def _serves(pools: Sequence[str], known: dict[str, int]) -> bool:
    return len(pools) > 0 and all(pool in known for pool in pools)


def _flat(gate: Tensor | None, x: Tensor) -> Tensor | None:
    """Return a channel gate ``(N, C, 1, 1)`` as the moves take it."""
    return None if gate is None else _flatten(gate, x)


def _flatten(gate: Tensor, x: Tensor) -> Tensor:
    return _here(gate, x).to(accumulator(x)).expand(*x.shape[:2], 1, 1).reshape(x.shape[:2])


def _small(gate: Tensor | None, x: Tensor) -> Tensor | None:
    """Return a spatial gate in the dtype, shape and layout that the moves take."""
    if gate is None:
        return None
    return _here(gate, x).to(accumulator(x)).expand(x.shape[0], 1, *x.shape[2:]).contiguous()


def _residual(residual: Tensor | None, x: Tensor) -> Tensor | None:
    return None if residual is None else _here(residual, x).expand_as(x)


def _here(other: Tensor, x: Tensor) -> Tensor:
    """Return what goes with a map, or raise where it is on another device: kernels read memory, and ask nobody."""
    if other.device != x.device:
        raise WhatwhereError(
            f"the map is on {x.device} and what it is multiplied by or added to on {other.device}: move one"
        )
    return other
