"""Whole attentions: squeeze, excite, squeeze, excite, apply the gates, with one pass in the backward that writes the
map's gradient.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from . import moves
from .backends import REFERENCE, choose
from .checks import check_beside, check_map
from .glance import glance
from .glance import serves as serves_whole
from .norm import Normal, normalise, takes_statistics
from .single import (
    CHANNEL_ROWS,
    SPACE_ROWS,
    apply_gates,
    channel_pools,
    count_kinds,
    flat,
    serves,
    small_map,
    space_pools,
    squeeze_channels,
    squeeze_space,
)
from .steps import Step

_SERVED = ((), ("channel",), ("spatial",), ("channel", "spatial"))


def gates(x: Tensor, steps: Sequence[Step]) -> tuple[Tensor | None, Tensor | None]:
    """Return the channel gate and the spatial gate of an attention's steps, each made from the map times the gates
    before it.

    Args:
        x: map, ``(N, C, H, W)``.
        steps: a channel step, a spatial step, or both in the order in which they look at the map.

    Returns:
        ``(N, C, 1, 1)`` and ``(N, 1, H, W)``; None for a step that is not there.

    Raises:
        WhatwhereError: an unknown pool, a map of another shape.

    Example:
        >>> import torch, whatwhere as ww
        >>> channel, spatial = ww.ops.gates(torch.randn(2, 32, 7, 5), ww.create("cbam", 32).steps())
        >>> channel.shape, spatial.shape
        (torch.Size([2, 32, 1, 1]), torch.Size([2, 1, 7, 5]))
    """
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
    """Return :math:`relu(u \\cdot channel \\cdot spatial + residual)`, where u is x, or norm(x), and the gates are
    those of the steps.

    Args:
        x: map, ``(N, C, H, W)``.
        steps: one or two, a channel step and a spatial step in the order in which they look at the map; may be empty.
        norm: a batch normalisation of the map before the attention, in training (its running statistics are updated) or
            evaluation.
        residual: map like ``x`` that is added after the gates; a size of 1 is repeated.
        relu: whether negative results become 0.

    Returns:
        ``(N, C, H, W)`` in the dtype of ``x``, equal to running the steps one after the other, up to rounding.

    Raises:
        WhatwhereError: an unknown pool; a map, residual or gate of another shape or on another device.

    Example:
        >>> import torch, whatwhere as ww
        >>> x, norm = torch.randn(2, 32, 7, 5), torch.nn.BatchNorm2d(32)
        >>> y = ww.ops.attend(x, ww.create("cbam", 32).steps(), norm=norm, residual=x, relu=True)
        >>> y.shape, bool((y >= 0).all())
        (torch.Size([2, 32, 7, 5]), True)
    """
    check_map(x)
    check_beside("residual", residual, x)
    served = tuple(step.kind for step in steps) in _SERVED and all(
        serves(step.pools, SPACE_ROWS if step.kind == "channel" else CHANNEL_ROWS) for step in steps
    )
    alone = norm is None and len(steps) == 0
    if alone or not served or choose(x) == REFERENCE or (norm is not None and not Normal.serves(norm, x)):
        u = x if norm is None else type(norm).forward(norm, x)
        channel, spatial = gates(u, steps)
        return apply_gates(u, channel, spatial, None, residual, relu)
    residual = None if residual is None else residual.expand_as(x)
    first = steps[0] if steps and steps[0].kind == "channel" else None
    second = steps[-1] if steps and steps[-1].kind == "spatial" else None
    return _attend(x, first, second, norm, residual, relu)


def _attend(
    x: Tensor, what: Step | None, where: Step | None, norm: nn.BatchNorm2d | None, residual: Tensor | None, relu: bool
) -> Tensor:
    if (norm is None or not takes_statistics(norm)) and serves_whole(x, what, where):
        return glance(x, what, where, None if norm is None else normalise(norm, x, 0, False)[0], residual, relu)
    kinds = 0 if what is None else count_kinds(what.pools)
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
        channel = what.excite(space_pools(stats, what.pools, x, normal))
        check_beside("channel", channel, x)
        gate = flat(channel, x)
        scale, bias = (gate, None) if normal is None else (normal.scale * gate, normal.bias * gate)
    spatial = None
    if where is not None:
        spatial = where.excite(channel_pools(moves.squeeze_channels(x, shift, scale, bias, thread), where.pools, x))
        check_beside("spatial", spatial, x)
        spatial = small_map(spatial, x)
    return moves.apply_gates(x, shift, scale, bias, spatial, residual, relu, thread)
