# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"
"""The two squeezes: a map to a few numbers per channel, or per place. Each reads the map once."""

import triton
import triton.language as tl
from torch import Tensor

from .best import beats, best_of, join
from .tiles import chunks_of, dense, launch, tiles_of


@triton.jit(do_not_specialize=["blocks", "chunks", "steps"])
def squeeze_space_kernel(
    x, shift, sign, out, spots, channels, places, channel_step, place_step, blocks, chunks, steps,
    ROWS: tl.constexpr,
    NUMBER: tl.constexpr, INDEX: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """One program: ``BLOCK_C`` channels of an image over ``steps`` blocks of places; mean, peak and mean of squares, as
    many as ``ROWS``.
    """
    pid = tl.program_id(0)
    chunk = pid % chunks
    image = (pid // chunks // blocks).to(tl.int64)
    c = (pid // chunks % blocks * BLOCK_C + tl.arange(0, BLOCK_C)).to(INDEX)
    p = (chunk * steps * BLOCK_P + tl.arange(0, BLOCK_P)).to(INDEX)
    rows = x + image * channels * places + c * channel_step
    there = c < channels

    offset = tl.full((BLOCK_C,), 0.0, NUMBER)
    factor = tl.full((BLOCK_C,), 1.0, NUMBER)
    if shift is not None:
        offset = tl.load(shift + c, mask=there, other=0)
    if sign is not None:
        factor = tl.load(sign + c, mask=there, other=0)

    total = tl.full((BLOCK_C, BLOCK_P), 0.0, NUMBER)
    squares = tl.full((BLOCK_C, BLOCK_P), 0.0, NUMBER)
    best = tl.full((BLOCK_C, BLOCK_P), float("-inf"), NUMBER)
    # Where every number is -inf a lane's first place stands; a lane without places has one behind all others.
    where = tl.full((BLOCK_C, BLOCK_P), 0, INDEX) + p[None, :]
    for _ in range(steps):
        inside = there[:, None] & (p < places)[None, :]
        w = tl.load(rows[:, None] + p[None, :] * place_step, mask=inside, other=0).to(NUMBER) - offset[:, None]
        w = tl.where(inside, w, 0.0)
        total += w
        if ROWS == 3:
            squares += w * w
        if spots is not None:
            key = tl.where(inside, w * factor[:, None], float("-inf"))
            better = beats(key, best)
            best = tl.where(better, key, best)
            where = tl.where(better, p[None, :], where)
        p += BLOCK_P

    row = out + (image * chunks + chunk) * ROWS * channels + c
    tl.store(row, tl.sum(total, 1) / places, mask=there)
    peak = tl.full((BLOCK_C,), 0.0, NUMBER)
    if spots is not None:
        _, place = best_of(best, where, 1)
        peak = tl.load(rows + place * place_step, mask=there, other=0).to(NUMBER) - offset
        tl.store(spots + (image * chunks + chunk) * channels + c, place.to(NUMBER), mask=there)
    if ROWS > 1:
        tl.store(row + channels, peak, mask=there)
    if ROWS == 3:
        tl.store(row + 2 * channels, tl.sum(squares, 1) / places, mask=there)


def squeeze_space(
    x: Tensor, shift: Tensor | None, sign: Tensor | None, kinds: int, peaks: bool
) -> tuple[Tensor, Tensor]:
    """(N, kinds, C): mean of w, w where sign·w is greatest (0 without peaks), mean of w²; and that place in H·W, (N, C)
    or (0, C).

    The first place in a tie, the first NaN.
    """
    t = tiles_of(x)
    shift, sign = dense(shift, sign if peaks else None)
    chunks, steps = chunks_of(t.images * t.c_blocks, t.p_blocks)
    rows = max(kinds, 2) if peaks else kinds  # chunks are joined by their peaks
    parts, spots = t.new(t.images, chunks, rows, t.channels), t.new(t.images, chunks, t.channels) if peaks else None
    launch(
        squeeze_space_kernel, t.images * t.c_blocks * chunks, t, x=t.x, shift=shift, sign=sign, out=parts, spots=spots,
        blocks=t.c_blocks, chunks=chunks, steps=steps, ROWS=rows,
    )  # fmt: skip
    values, places = join(parts, spots, sign, mean=0, peak=1)
    return values if rows == kinds else values[:, :kinds].contiguous(), places


@triton.jit(do_not_specialize=["blocks", "chunks", "steps"])
def squeeze_channels_kernel(
    x, shift, scale, bias, out, spots, channels, places, channel_step, place_step, blocks, chunks, steps,
    NUMBER: tl.constexpr, INDEX: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """One program: ``BLOCK_P`` places of an image over ``steps`` blocks of channels."""
    pid = tl.program_id(0)
    chunk = pid % chunks
    image = (pid // chunks // blocks).to(tl.int64)
    p = (pid // chunks % blocks * BLOCK_P + tl.arange(0, BLOCK_P)).to(INDEX)
    c = (chunk * steps * BLOCK_C + tl.arange(0, BLOCK_C)).to(INDEX)
    columns = x + image * channels * places + p * place_step
    there = p < places

    total = tl.full((BLOCK_C, BLOCK_P), 0.0, NUMBER)
    best = tl.full((BLOCK_C, BLOCK_P), float("-inf"), NUMBER)
    where = tl.full((BLOCK_C, BLOCK_P), 0, INDEX) + c[:, None]
    for _ in range(steps):
        known = c < channels
        inside = known[:, None] & there[None, :]
        v = tl.load(columns[None, :] + c[:, None] * channel_step, mask=inside, other=0).to(NUMBER)
        if shift is not None:
            v -= tl.load(shift + c, mask=known, other=0)[:, None]
        if scale is not None:
            v *= tl.load(scale + image * channels + c, mask=known, other=0)[:, None]
        if bias is not None:
            v += tl.load(bias + image * channels + c, mask=known, other=0)[:, None]
        total += v  # 0 in lanes without a channel
        key = tl.where(inside, v, float("-inf"))
        better = beats(key, best)
        best = tl.where(better, key, best)
        where = tl.where(better, c[:, None], where)
        c += BLOCK_C

    top, channel = best_of(best, where, 0)
    row = out + (image * chunks + chunk) * 2 * places + p
    tl.store(row, top, mask=there)
    tl.store(row + places, tl.sum(total, 0) / channels, mask=there)
    tl.store(spots + (image * chunks + chunk) * places + p, channel.to(NUMBER), mask=there)


def squeeze_channels(
    x: Tensor, shift: Tensor | None, scale: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(N, 2, H, W): greatest v over the channels, mean of v; and the channel of the greatest, (N, H, W): the first in a
    tie, the first NaN.
    """
    t = tiles_of(x)
    shift, scale, bias = dense(shift, scale, bias)
    chunks, steps = chunks_of(t.images * t.p_blocks, t.c_blocks)
    parts, spots = t.new(t.images, chunks, 2, t.places), t.new(t.images, chunks, t.places)
    launch(
        squeeze_channels_kernel, t.images * t.p_blocks * chunks, t, x=t.x, shift=shift, scale=scale, bias=bias,
        out=parts, spots=spots, blocks=t.p_blocks, chunks=chunks, steps=steps,
    )  # fmt: skip
    values, channels = join(parts, spots, None, mean=1, peak=0)
    return values.view(t.images, 2, *x.shape[2:]), channels.view(t.images, *x.shape[2:])
