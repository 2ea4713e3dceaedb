# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"
"""The two moves that make a map: apply_gates, and gather, which puts the gradient of a map together. Each reads and
writes a number once.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tiles import Tiles, dense, launch, tiles_of


@triton.jit
def tile(
    c_blocks, p_blocks, LAST: tl.constexpr, INDEX: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr
):  # fmt: skip
    """Return this program's image, channels and places: the tiles are taken as they lie in memory, image by image."""
    pid = tl.program_id(0)
    image = (pid // c_blocks // p_blocks).to(tl.int64)
    if LAST:
        c = pid % c_blocks * BLOCK_C
        p = pid // c_blocks % p_blocks * BLOCK_P
    else:
        p = pid % p_blocks * BLOCK_P
        c = pid // p_blocks % c_blocks * BLOCK_C
    return image, (c + tl.arange(0, BLOCK_C)).to(INDEX), (p + tl.arange(0, BLOCK_P)).to(INDEX)


@triton.jit(do_not_specialize=["c_blocks", "p_blocks"])
def apply_gates_kernel(
    x, shift, scale, bias, spatial, residual, y, channels, places, channel_step, place_step, c_blocks, p_blocks,
    RELU: tl.constexpr, LAST: tl.constexpr,
    NUMBER: tl.constexpr, INDEX: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """One program: one tile."""
    image, c, p = tile(c_blocks, p_blocks, LAST, INDEX, BLOCK_C, BLOCK_P)
    known, there = c < channels, p < places
    inside = known[:, None] & there[None, :]
    base = image * channels * places
    at = c[:, None] * channel_step + p[None, :] * place_step

    value = tl.load(x + base + at, mask=inside, other=0).to(NUMBER)
    if shift is not None:
        value -= tl.load(shift + c, mask=known, other=0)[:, None]
    if scale is not None:
        value *= tl.load(scale + image * channels + c, mask=known, other=0)[:, None]
    if bias is not None:
        value += tl.load(bias + image * channels + c, mask=known, other=0)[:, None]
    if spatial is not None:
        value *= tl.load(spatial + image * places + p, mask=there, other=0)[None, :]
    if residual is not None:
        value += tl.load(residual + base + at, mask=inside, other=0).to(NUMBER)
    if RELU:
        value = tl.where(value < 0, 0.0, value)  # NaN stays
    tl.store(y + base + at, value, mask=inside)


def apply_gates(
    x: Tensor, shift: Tensor | None, scale: Tensor | None, bias: Tensor | None,
    spatial: Tensor | None, residual: Tensor | None, relu: bool,
) -> Tensor:  # fmt: skip
    """(N, C, H, W): relu(v · spatial + residual)."""
    t = tiles_of(x)
    shift, scale, bias, spatial = dense(shift, scale, bias, spatial)
    y = torch.empty_like(t.x)
    _each_tile(
        apply_gates_kernel, t, x=t.x, shift=shift, scale=scale, bias=bias, spatial=spatial,
        residual=t.like(residual), y=y, RELU=relu,
    )  # fmt: skip
    return y


@triton.jit(do_not_specialize=["c_blocks", "p_blocks"])
def gather_kernel(
    x, g, shift, scale, spatial, lines, line_spots, points, point_spots, dx, channels, places,
    channel_step, place_step, c_blocks, p_blocks,
    KINDS: tl.constexpr, LAST: tl.constexpr,
    NUMBER: tl.constexpr, INDEX: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """One program: one tile."""
    image, c, p = tile(c_blocks, p_blocks, LAST, INDEX, BLOCK_C, BLOCK_P)
    known, there = c < channels, p < places
    inside = known[:, None] & there[None, :]
    base = image * channels * places
    at = c[:, None] * channel_step + p[None, :] * place_step

    value = tl.full((BLOCK_C, BLOCK_P), 0.0, NUMBER)
    if g is not None:
        value = tl.load(g + base + at, mask=inside, other=0).to(NUMBER)
        if spatial is not None:
            value *= tl.load(spatial + image * places + p, mask=there, other=0)[None, :]
    if lines is not None:
        line = lines + image * 2 * places + p
        peak = tl.load(line, mask=there, other=0)
        mean = tl.load(line + places, mask=there, other=0) / channels
        channel = tl.load(line_spots + image * places + p, mask=there, other=0).to(INDEX)
        value += mean[None, :] + tl.where(c[:, None] == channel[None, :], peak[None, :], 0.0)
    if scale is not None:
        value *= tl.load(scale + image * channels + c, mask=known, other=0)[:, None]
    if points is not None:
        point = points + image * KINDS * channels + c
        value += (tl.load(point, mask=known, other=0) / places)[:, None]
        if point_spots is not None:
            peak = tl.load(point + channels, mask=known, other=0)
            place = tl.load(point_spots + image * channels + c, mask=known, other=0).to(INDEX)
            value += tl.where(place[:, None] == p[None, :], peak[:, None], 0.0)
        if KINDS == 3:
            w = tl.load(x + base + at, mask=inside, other=0).to(NUMBER)
            if shift is not None:
                w -= tl.load(shift + c, mask=known, other=0)[:, None]
            value += (tl.load(point + 2 * channels, mask=known, other=0) * 2 / places)[:, None] * w
    tl.store(dx + base + at, value, mask=inside)


def gather(
    like: Tensor, g: Tensor | None, shift: Tensor | None, scale: Tensor | None, spatial: Tensor | None,
    lines: Tensor | None, channels: Tensor | None, points: Tensor | None, spots: Tensor | None,
) -> Tensor:  # fmt: skip
    """The gradient of x, in its dtype: scale·(g·spatial + dv) + what comes from the squeeze over space.

    Args:
        like: x; its values are read only where ``points`` has three kinds.
        g: gradient of y, or None.
        shift: ``(C)`` or None.
        scale: ``(N, C)`` or None.
        spatial: ``(N, 1, H, W)`` or None.
        lines: ``(N, 2, H, W)`` [d max, d mean] or None.
        channels: ``(N, H, W)``, of the greatest, with ``lines``.
        points: ``(N, kinds, C)`` [d mean, d max, d mean of squares] or None.
        spots: ``(N, C)``, places of the greatest, with ``points``, or None: then there is no d max.
    """
    t = tiles_of(like)
    kinds = 0 if points is None else points.shape[1]
    spots = spots if kinds > 1 else None
    shift, scale, spatial, lines, channels, points, spots = dense(shift, scale, spatial, lines, channels, points, spots)
    dx = torch.empty_like(t.x)
    _each_tile(
        gather_kernel, t, x=t.x if kinds == 3 else None, g=t.like(g), shift=shift, scale=scale, spatial=spatial,
        lines=lines, line_spots=channels, points=points, point_spots=spots, dx=dx, KINDS=kinds,
    )  # fmt: skip
    return dx


def _each_tile(kernel: Any, t: Tiles, **arguments: Any) -> None:
    programs = t.images * t.c_blocks * t.p_blocks
    launch(kernel, programs, t, c_blocks=t.c_blocks, p_blocks=t.p_blocks, LAST=t.place_step != 1, **arguments)
