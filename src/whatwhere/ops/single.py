"""The single ops on the fastest backend: squeeze over space, squeeze over channels, apply gates, filter."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from . import moves, reference
from .backends import REFERENCE, choose
from .checks import check_beside, check_filter, check_map, check_pools
from .dtypes import accumulator
from .norm import Normal

SPACE_ROWS = {"avg": 0, "max": 1, "lp": 2}
"""The pools over space that the moves find, and where in their result."""

CHANNEL_ROWS = {"max": 0, "avg": 1}
"""The pools over channels that the moves find, and where in their result."""


def squeeze_space(x: Tensor, pools: Sequence[str], spatial: Tensor | None = None) -> Tensor:
    r"""Squeeze every channel of a map to one number per pool.

    With :math:`u = x \cdot spatial` and the sum over the :math:`H \cdot W` positions of a channel:

    - ``avg``: :math:`\frac{1}{HW}\sum u`
    - ``max``: :math:`\max u`; in a tie the gradient goes to one position only, as in the official CBAM code
    - ``lp``: :math:`\sqrt{\sum u^2}`; its gradient at 0 is 0 (``F.lp_pool2d`` of the official code gives NaN there)
    - ``lse``: :math:`\log\sum e^u`

    Args:
        x: map, ``(N, C, H, W)``, any floating dtype and memory format; H and W at least 1, N may be 0.
        pools: names out of ``avg``, ``max``, ``lp``, ``lse``, in the order of the result.
        spatial: optional gate ``(N, 1, H, W)`` that the map is multiplied by before it is squeezed; a size of 1 is
            repeated.

    Returns:
        ``(N, P, C)`` in the dtype of ``x``, with P the number of pools.

    Raises:
        WhatwhereError: an unknown pool or none, a map or gate of another shape, a gate on another device.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.ops.squeeze_space(torch.arange(8.0).view(1, 2, 2, 2), ("avg", "max"))
        tensor([[[1.5000, 5.5000],
                 [3.0000, 7.0000]]])
    """
    check_map(x)
    check_pools(pools, reference.SPACE_POOLS)
    check_beside("spatial", spatial, x)
    if spatial is not None or not serves(pools, SPACE_ROWS) or choose(x) == REFERENCE:
        return reference.squeeze_space(x, pools, spatial)
    kinds = count_kinds(pools)
    thread = moves.open_map(x, None, kinds)
    stats = moves.squeeze_space(x, None, None, kinds, "max" in pools, thread)
    return space_pools(stats, pools, x, None)


def squeeze_channels(x: Tensor, pools: Sequence[str], channel: Tensor | None = None) -> Tensor:
    r"""Squeeze every position of a map to one number per pool, over the channels of :math:`u = x \cdot channel`.

    Args:
        x: map, ``(N, C, H, W)``, any floating dtype and memory format; C at least 1, N may be 0.
        pools: names out of ``avg``, ``max``, in the order of the result (the official CBAM code stacks max, avg).
        channel: optional gate ``(N, C, 1, 1)`` that the map is multiplied by before it is squeezed; a size of 1 is
            repeated.

    Returns:
        ``(N, P, H, W)`` in the dtype of ``x``, with P the number of pools. In a tie the gradient of ``max`` goes to one
        channel only.

    Raises:
        WhatwhereError: an unknown pool or none, a map or gate of another shape, a gate on another device.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.ops.squeeze_channels(torch.arange(8.0).view(1, 2, 2, 2), ("max", "avg"))
        tensor([[[[4., 5.],
                  [6., 7.]],
        <BLANKLINE>
                 [[2., 3.],
                  [4., 5.]]]])
    """
    check_map(x)
    check_pools(pools, reference.CHANNEL_POOLS)
    check_beside("channel", channel, x)
    if not serves(pools, CHANNEL_ROWS) or choose(x) == REFERENCE:
        return reference.squeeze_channels(x, pools, channel)
    gate = None if channel is None else flat(channel, x)
    return channel_pools(moves.squeeze_channels(x, None, gate, None, moves.open_map(x)), pools, x)


def apply_gates(
    x: Tensor,
    channel: Tensor | None = None,
    spatial: Tensor | None = None,
    full: Tensor | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    r"""Multiply a map by its gates: :math:`y = relu(x \cdot channel \cdot spatial \cdot full + residual)`.

    What is None is left out. In each gate and in the residual a size of 1 is repeated, so that ``(1, 1, H, W)`` is one
    spatial gate for all images.

    Args:
        x: map, ``(N, C, H, W)``, any floating dtype and memory format.
        channel: gate ``(N, C, 1, 1)``.
        spatial: gate ``(N, 1, H, W)``.
        full: gate ``(N, C, H, W)``.
        residual: map ``(N, C, H, W)`` that is added after the gates.
        relu: whether negative results become 0.

    Returns:
        ``(N, C, H, W)`` in the dtype of ``x`` (gates of another dtype are converted to it).

    Raises:
        WhatwhereError: a map, gate or residual of another shape, or on another device.

    Example:
        >>> import torch, whatwhere as ww
        >>> x, channel = torch.ones(1, 2, 1, 3), torch.tensor([0.5, 1.0]).view(1, 2, 1, 1)
        >>> ww.ops.apply_gates(x, channel, residual=-0.6 * x, relu=True)
        tensor([[[[0.0000, 0.0000, 0.0000]],
        <BLANKLINE>
                 [[0.4000, 0.4000, 0.4000]]]])
    """
    check_map(x)
    for name, other in (("channel", channel), ("spatial", spatial), ("full", full), ("residual", residual)):
        check_beside(name, other, x)
    few = (channel is not None) + (spatial is not None) + (residual is not None) + relu == 0
    if full is not None or few or choose(x) == REFERENCE:
        return reference.apply_gates(x, channel, spatial, full, residual, relu)
    scale = None if channel is None else flat(channel, x)
    positions = None if spatial is None else small_map(spatial, x)
    residual = None if residual is None else residual.expand_as(x)
    return moves.apply_gates(x, None, scale, None, positions, residual, relu, moves.open_map(x))


def filter_maps(maps: Tensor, weight: Tensor) -> Tensor:
    """Return the convolution of few maps with a large kernel that keeps their size, without bias.

    Args:
        maps: ``(N, P, H, W)``.
        weight: ``(O, P, k, k)``, k odd.

    Returns:
        ``(N, O, H, W)`` in the dtype of ``maps``, or of autocast.

    Raises:
        WhatwhereError: ``maps`` or ``weight`` of another shape, or on different devices.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.ops.filter_maps(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 3))
        tensor([[[[ 8., 12.,  8.],
                  [12., 18., 12.],
                  [ 8., 12.,  8.]]]])
    """
    check_filter(maps, weight)
    maps = maps.contiguous()
    if maps.device.type != "cpu" or torch.is_autocast_enabled("cpu") or choose(maps) == REFERENCE:
        return F.conv2d(maps, weight, padding=weight.shape[-1] // 2)
    small = accumulator(maps)
    return moves.filter_maps(maps.to(small), weight.to(small)).to(maps.dtype)


def serves(pools: Sequence[str], known: dict[str, int]) -> bool:
    """Whether the moves find all of the pools."""
    return len(pools) > 0 and all(pool in known for pool in pools)


def count_kinds(pools: Sequence[str]) -> int:
    """Return how many of mean, peak and mean square the squeeze over space has to find."""
    return 3 if "lp" in pools else 2 if "max" in pools else 1


def space_pools(stats: Tensor, pools: Sequence[str], x: Tensor, normal: Normal | None) -> Tensor:
    """Return ``(N, P, C)`` of what the squeeze over space found, of w or, with a norm, of u = w · scale + bias."""
    if "lp" not in pools:
        found = _rows(stats, [SPACE_ROWS[pool] for pool in pools])
        return (found if normal is None else torch.addcmul(normal.bias, found, normal.scale)).to(x.dtype)
    mean, peak, squares = stats.unbind(1)
    if normal is not None:
        a, b = normal.scale, normal.bias
        mean, peak, squares = a * mean + b, a * peak + b, a * a * squares + b * (2 * a * mean + b)
    sums = squares * (x.shape[2] * x.shape[3])
    length = torch.where(sums > 0, torch.where(sums > 0, sums, 1).sqrt(), torch.where(sums <= 0, 0, sums))
    return torch.stack([{"avg": mean, "max": peak, "lp": length}[pool] for pool in pools], 1).to(x.dtype)


def channel_pools(found: Tensor, pools: Sequence[str], x: Tensor) -> Tensor:
    """Return ``(N, P, H, W)`` of what the squeeze over channels found."""
    return _rows(found, [CHANNEL_ROWS[pool] for pool in pools]).to(x.dtype)


def flat(gate: Tensor, x: Tensor) -> Tensor:
    """Return a checked channel gate as the moves take it, ``(N, C)``."""
    return gate.to(accumulator(x)).expand(*x.shape[:2], 1, 1).reshape(x.shape[:2])


def small_map(gate: Tensor, x: Tensor) -> Tensor:
    """Return a checked spatial gate in the dtype, shape and layout that the moves take."""
    return gate.to(accumulator(x)).expand(x.shape[0], 1, *x.shape[2:]).contiguous()


def _rows(found: Tensor, rows: list[int]) -> Tensor:
    """Return the rows asked for: a slice where they lie in order."""
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return found if len(rows) == found.shape[1] else found[:, rows[0] : rows[0] + len(rows)]
    return torch.stack([found[:, row] for row in rows], 1)
