# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"
"""The two moves that turn gradients into sums. Each reads its maps once; partial sums have their own slots and are
added in a fixed order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tiles import chunks_of, dense, launch, tiles_of


@triton.jit(do_not_specialize=["blocks", "chunks", "steps"])
def apply_gates_backward_kernel(
    g, x, y, shift, scale, bias, spatial, masked, sums, line, channels, places, channel_step, place_step,
    blocks, chunks, steps,
    NUMBER: tl.constexpr, INDEX: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """One program: ``BLOCK_C`` channels of an image over ``steps`` blocks of places.

    It writes the sums of its channels over its places, and the sums of its places over its channels.
    """
    pid = tl.program_id(0)
    block = pid % blocks
    chunk = pid // blocks % chunks
    image = (pid // blocks // chunks).to(tl.int64)
    c = (block * BLOCK_C + tl.arange(0, BLOCK_C)).to(INDEX)
    p = (chunk * steps * BLOCK_P + tl.arange(0, BLOCK_P)).to(INDEX)
    base = image * channels * places
    known = c < channels

    offset = tl.full((BLOCK_C,), 0.0, NUMBER)
    factor = tl.full((BLOCK_C,), 1.0, NUMBER)
    summand = tl.full((BLOCK_C,), 0.0, NUMBER)
    if shift is not None:
        offset = tl.load(shift + c, mask=known, other=0)
    if scale is not None:
        factor = tl.load(scale + image * channels + c, mask=known, other=0)
    if bias is not None:
        summand = tl.load(bias + image * channels + c, mask=known, other=0)

    products = tl.full((BLOCK_C, BLOCK_P), 0.0, NUMBER)
    plain = tl.full((BLOCK_C, BLOCK_P), 0.0, NUMBER)
    for _ in range(steps):
        there = p < places
        inside = known[:, None] & there[None, :]
        at = c[:, None] * channel_step + p[None, :] * place_step
        d = tl.load(g + base + at, mask=inside, other=0).to(NUMBER)
        if y is not None:
            d = tl.where(tl.load(y + base + at, mask=inside, other=0).to(NUMBER) <= 0, 0.0, d)  # a NaN lets it pass
            tl.store(masked + base + at, d, mask=inside)
        w = tl.load(x + base + at, mask=inside, other=0).to(NUMBER) - offset[:, None]
        w = tl.where(inside, w, 0.0)
        if spatial is not None:
            v = w * factor[:, None] + summand[:, None]
            tl.store(line + (image * blocks + block) * places + p, tl.sum(d * v, 0), mask=there)
            d *= tl.load(spatial + image * places + p, mask=there, other=0)[None, :]
        products += d * w
        plain += d
        p += BLOCK_P
    row = sums + (image * chunks + chunk) * 2 * channels + c
    tl.store(row, tl.sum(products, 1), mask=known)
    tl.store(row + channels, tl.sum(plain, 1), mask=known)


def apply_gates_backward(
    g: Tensor, x: Tensor, y: Tensor | None, shift: Tensor | None, scale: Tensor | None, bias: Tensor | None,
    spatial: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """From g, the gradient of y: (g where y > 0, or an empty tensor without y; (N, 2, C): Σ g·spatial·w, Σ g·spatial;
    Σ_c g·v or empty).
    """
    t = tiles_of(x, square=True)
    shift, scale, bias, spatial = dense(shift, scale, bias, spatial)
    chunks, steps = chunks_of(t.images * t.c_blocks, t.p_blocks)
    masked = x.new_empty((0,)) if y is None else torch.empty_like(t.x)
    sums = t.new(t.images, chunks, 2, t.channels)
    line = t.new(0) if spatial is None else t.new(t.images, t.c_blocks, *x.shape[2:])
    launch(
        apply_gates_backward_kernel, t.images * t.c_blocks * chunks, t, g=t.like(g), x=t.x, y=t.like(y),
        shift=shift, scale=scale, bias=bias, spatial=spatial, masked=None if y is None else masked, sums=sums,
        line=None if spatial is None else line, blocks=t.c_blocks, chunks=chunks, steps=steps,
    )  # fmt: skip
    return masked, _added(sums), line if spatial is None else _added(line)[:, None]


@triton.jit(do_not_specialize=["blocks", "chunks", "steps"])
def squeeze_channels_backward_kernel(
    x, shift, lines, spots, sums, channels, places, channel_step, place_step, blocks, chunks, steps,
    NUMBER: tl.constexpr, INDEX: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """One program: ``BLOCK_C`` channels of an image over ``steps`` blocks of places."""
    pid = tl.program_id(0)
    chunk = pid % chunks
    image = (pid // chunks // blocks).to(tl.int64)
    c = (pid // chunks % blocks * BLOCK_C + tl.arange(0, BLOCK_C)).to(INDEX)
    p = (chunk * steps * BLOCK_P + tl.arange(0, BLOCK_P)).to(INDEX)
    rows = x + image * channels * places + c * channel_step
    known = c < channels
    offset = tl.full((BLOCK_C,), 0.0, NUMBER)
    if shift is not None:
        offset = tl.load(shift + c, mask=known, other=0)

    products = tl.full((BLOCK_C, BLOCK_P), 0.0, NUMBER)
    plain = tl.full((BLOCK_C, BLOCK_P), 0.0, NUMBER)
    for _ in range(steps):
        there = p < places
        inside = known[:, None] & there[None, :]
        line = lines + image * 2 * places + p
        peak = tl.load(line, mask=there, other=0)
        mean = tl.load(line + places, mask=there, other=0) / channels
        channel = tl.load(spots + image * places + p, mask=there, other=0).to(INDEX)
        d = mean[None, :] + tl.where(c[:, None] == channel[None, :], peak[None, :], 0.0)
        w = tl.load(rows[:, None] + p[None, :] * place_step, mask=inside, other=0).to(NUMBER) - offset[:, None]
        products += d * tl.where(inside, w, 0.0)
        plain += d
        p += BLOCK_P
    row = sums + (image * chunks + chunk) * 2 * channels + c
    tl.store(row, tl.sum(products, 1), mask=known)
    tl.store(row + channels, tl.sum(plain, 1), mask=known)


def squeeze_channels_backward(x: Tensor, shift: Tensor | None, lines: Tensor, channels: Tensor) -> Tensor:
    """(N, 2, C): Σ dv·w and Σ dv over the places, with dv the gradient that the squeeze over channels gives.

    ``lines``: (N, 2, H, W) [d max, d mean] with ``channels`` (N, H, W).
    """
    t = tiles_of(x)
    shift, given, spots = dense(shift, lines, channels)
    chunks, steps = chunks_of(t.images * t.c_blocks, t.p_blocks)
    sums = t.new(t.images, chunks, 2, t.channels)
    launch(
        squeeze_channels_backward_kernel, t.images * t.c_blocks * chunks, t, x=t.x, shift=shift, lines=given,
        spots=spots,
        sums=sums, blocks=t.c_blocks, chunks=chunks, steps=steps,
    )  # fmt: skip
    return _added(sums)


def _added(parts: Tensor) -> Tensor:
    """Add ``(N, parts, …)`` over the parts."""
    return parts[:, 0] if parts.shape[1] == 1 else parts.sum(1)
