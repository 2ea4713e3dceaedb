"""The moves on a CPU, with Numba: :mod:`planar` for contiguous maps, :mod:`channels_last` for those; see
:mod:`whatwhere.ops.moves`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..dtypes import accumulator
from . import entries
from .launch import crew

_TAGS: dict[torch.dtype, Any] = {
    torch.float32: np.float32(0),
    torch.float64: np.float64(0),
    torch.bfloat16: np.uint16(0),
    torch.float16: np.int16(0),
}
DTYPES = tuple(_TAGS)


def _at(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _dense(*small: Tensor | None) -> list[Tensor | None]:
    return [None if t is None else t.contiguous() for t in small]


def _planar(x: Tensor) -> bool:
    return x.is_contiguous()


def _like(x: Tensor, other: Tensor) -> Tensor:
    """Return ``other`` with the dtype of ``x`` and its places in memory."""
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    return other.to(x.dtype).contiguous(memory_format=layout)


def _sizes(x: Tensor) -> tuple[int, int, int]:
    n, c, h, w = x.shape
    return n, c, h * w


def _rows(x: Tensor, lanes: int) -> int:
    """Return how many rows make a task: some 16,000 numbers."""
    return max(1, 16384 // lanes)


def _cut(length: int, least: int, parts: int) -> tuple[int, int]:
    """Cut a length into so many parts, none (but the last) shorter than ``least``: how many, and how long. It depends
    on the shape alone.
    """
    size = max(least, -(-length // parts))
    size = -(-size // 16) * 16
    return -(-length // size), size


def squeeze_space(
    x: Tensor, shift: Tensor | None, sign: Tensor | None, kinds: int, peaks: bool
) -> tuple[Tensor, Tensor]:
    assert kinds >= 1 + peaks, "a peak needs a row of its own"
    n, c, p = _sizes(x)
    shift, sign = _dense(shift, sign)
    kind = accumulator(x)
    out = torch.empty(n, kinds, c, dtype=kind)
    spots = torch.empty(n if peaks else 0, c, dtype=kind)
    common = (_TAGS[x.dtype], x.data_ptr(), _at(shift), _at(sign), out.data_ptr(), spots.data_ptr() if peaks else 0)
    if _planar(x):
        entries.planar_squeeze_space(*common, n, c, p, _rows(x, p), kinds, *crew(x.numel()))
    else:
        entries.last_squeeze_space(*common, n, c, p, *_cut(c, 64, max(1, 32 // max(n, 1))), kinds, *crew(x.numel()))
    return out, spots


def squeeze_channels(
    x: Tensor, shift: Tensor | None, scale: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    n, c, p = _sizes(x)
    shift, scale, bias = _dense(shift, scale, bias)
    out = torch.empty(n, 2, *x.shape[2:], dtype=accumulator(x))
    spots = torch.empty(n, *x.shape[2:], dtype=accumulator(x))
    addresses = (_at(shift), _at(scale), _at(bias), out.data_ptr(), spots.data_ptr())
    common = (_TAGS[x.dtype], x.data_ptr(), *addresses, n, c, p)
    if _planar(x):
        entries.planar_squeeze_channels(*common, *_cut(p, 256, max(-(-p // 1024), 32 // max(n, 1))), *crew(x.numel()))
    else:
        entries.last_squeeze_channels(*common, _rows(x, c), *crew(x.numel()))
    return out, spots


def apply_gates(
    x: Tensor,
    shift: Tensor | None,
    scale: Tensor | None,
    bias: Tensor | None,
    spatial: Tensor | None,
    residual: Tensor | None,
    relu: bool,
) -> Tensor:
    n, c, p = _sizes(x)
    shift, scale, bias, spatial = _dense(shift, scale, bias, spatial)
    y = torch.empty_like(x)
    residual = None if residual is None else _like(x, residual)
    entry = entries.planar_apply_gates if _planar(x) else entries.last_apply_gates
    addresses = (_at(shift), _at(scale), _at(bias), _at(spatial), _at(residual), y.data_ptr())
    rows = _rows(x, p if _planar(x) else c)
    entry(_TAGS[x.dtype], x.data_ptr(), *addresses, n, c, p, rows, relu, *crew(x.numel()))
    return y


def apply_gates_backward(
    g: Tensor,
    x: Tensor,
    y: Tensor | None,
    shift: Tensor | None,
    scale: Tensor | None,
    bias: Tensor | None,
    spatial: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    n, c, p = _sizes(x)
    g = _like(x, g)
    shift, scale, bias, spatial = _dense(shift, scale, bias, spatial)
    masked = x.new_empty((0,)) if y is None else torch.empty_like(x)
    kind = accumulator(x)
    addresses = (g.data_ptr(), x.data_ptr(), _at(y), masked.data_ptr(), _at(shift), _at(scale), _at(bias), _at(spatial))
    if _planar(x):
        cut = _cut(c, 64, max(1, 32 // max(n, 1)))
        sums = torch.empty(n, 2, c, dtype=kind)
        place = torch.empty(0 if spatial is None else n, cut[0], -(-p // 16) * 16, dtype=kind)
        entry = entries.planar_apply_gates_backward
    else:
        cut = _cut(p, 64, max(1, 32 // max(n, 1)))
        sums = torch.empty(n, cut[0], 2, c, dtype=kind)
        place = torch.empty(0 if spatial is None else n, 1, p, dtype=kind)
        entry = entries.last_apply_gates_backward
    entry(_TAGS[x.dtype], *addresses, sums.data_ptr(), place.data_ptr(), n, c, p, *cut, *crew(x.numel()))
    if sums.dim() == 4:
        sums = sums.sum(1) if cut[0] > 1 else sums.view(n, 2, c)
    if spatial is None:
        return masked, sums, place.new_empty((0,))
    place = place.sum(1) if place.shape[1] > 1 else place[:, 0]
    return masked, sums, place[:, :p].contiguous().view(n, 1, *x.shape[2:])


def squeeze_channels_backward(x: Tensor, shift: Tensor | None, lines: Tensor, channels: Tensor) -> Tensor:
    n, c, p = _sizes(x)
    kind = accumulator(x)
    (shift,), lines = _dense(shift), lines.contiguous()
    addresses = (_TAGS[x.dtype], x.data_ptr(), _at(shift), lines.data_ptr(), channels.data_ptr())
    if _planar(x):
        sums = torch.empty(n, 2, c, dtype=kind)
        entries.planar_squeeze_channels_backward(*addresses, sums.data_ptr(), n, c, p, _rows(x, p), *crew(x.numel()))
        return sums
    cut = _cut(p, 64, max(1, 32 // max(n, 1)))
    sums = torch.empty(n, cut[0], 2, c, dtype=kind)
    entries.last_squeeze_channels_backward(*addresses, sums.data_ptr(), n, c, p, *cut, *crew(x.numel()))
    return sums.sum(1) if cut[0] > 1 else sums.view(n, 2, c)


def gather(
    like: Tensor,
    g: Tensor | None,
    shift: Tensor | None,
    scale: Tensor | None,
    spatial: Tensor | None,
    lines: Tensor | None,
    channels: Tensor | None,
    points: Tensor | None,
    spots: Tensor | None,
) -> Tensor:
    n, c, p = _sizes(like)
    g = None if g is None else _like(like, g)
    shift, scale, spatial, lines, channels, points, spots = _dense(
        shift, scale, spatial, lines, channels, points, spots
    )
    kinds = 0 if points is None else points.shape[1]
    dx = torch.empty_like(like)
    planar = _planar(like)
    addresses = map(_at, (g, like if kinds == 3 else None, shift, scale, spatial, lines, channels, points, spots, dx))
    entry = entries.planar_gather if planar else entries.last_gather
    entry(_TAGS[like.dtype], *addresses, n, c, p, _rows(like, p if planar else c), kinds, *crew(like.numel()))
    return dx


def glance(
    x: Tensor,
    a: Tensor | None,
    b: Tensor | None,
    dense: Sequence[Tensor | None],
    channel: Sequence[int],
    convolution: Sequence[Tensor],
    spatial: Sequence[int],
    factors: Sequence[float],
    residual: Tensor | None,
    relu: bool,
) -> Tensor:
    n, c, p = _sizes(x)
    h, w = x.shape[2:]
    kind = accumulator(x)
    size = 8 if kind == torch.float64 else 4
    y = torch.empty_like(x)
    a, b, *dense = _dense(a, b, *dense)
    residual = None if residual is None else _like(x, residual)
    scale = bias = None
    if dense:
        scale, bias = torch.empty(n, c, dtype=kind), None if b is None else torch.empty(n, c, dtype=kind)
    elif a is not None and b is not None:
        scale, bias = a.expand(n, c).contiguous(), b.expand(n, c).contiguous()
    kept: list[Tensor | None] = []  # what the kernel works on has to live until it is done
    what: tuple[Any, ...] = (_at(scale), _at(bias), 0, 0, 0, False, 0, *(0,) * 17, 1.0)
    if dense:
        top, pools, hard = channel
        kinds, width = top + pools, dense[0].shape[0]  # type: ignore[union-attr]
        sign = None if a is None or kinds == 1 else a.sign()
        values, hidden = torch.empty(n, kinds, c, dtype=kind), torch.empty(n, width, dtype=kind)
        spots = torch.empty(n, c, dtype=kind) if kinds == 2 else None
        kept += [sign, values, hidden, spots]
        what = (_at(scale), _at(bias), values.data_ptr(), _at(spots), _at(sign), True, kinds)
        what += (size, values.data_ptr(), _at(a), _at(b), *map(_at, dense), hidden.data_ptr(), _at(scale), _at(bias))
        what += (c, width, kinds, top, pools, hard, factors[0])
    where: tuple[Any, ...] = (0, 0, 0, False, *(0,) * 14, 1.0)
    if convolution:
        weight, affine = (t.contiguous() for t in convolution)
        top, pools, turn, hard = spatial
        found, channels = torch.empty(n, 2, h, w, dtype=kind), torch.empty(n, h, w, dtype=kind)
        gate, padded = torch.empty(n, h, w, dtype=kind), _border(n, pools, h, w, weight.shape[-1], kind)
        kept += [weight, affine, found, channels, gate, padded]
        where = (found.data_ptr(), channels.data_ptr(), gate.data_ptr(), True, found.data_ptr(), padded.data_ptr())
        where += (weight.data_ptr(), affine.data_ptr(), gate.data_ptr(), h, w, weight.shape[-1], *padded.shape[2:])
        where += (top, pools, turn, hard, factors[1])
    entry = entries.planar_glance if _planar(x) else entries.last_glance
    tag = _TAGS[x.dtype]
    entry(tag, x.data_ptr(), y.data_ptr(), _at(residual), relu, what, where, n, c, p, *crew(x.numel()))
    return y


def filter_maps(maps: Tensor, weight: Tensor) -> Tensor:
    (n, inputs, h, w), (outputs, _, k, _) = maps.shape, weight.shape
    padded = _bordered(maps, k)
    out = torch.empty(n, outputs, h, w, dtype=maps.dtype)
    sizes = (n, inputs, outputs, h, w, k, *padded.shape[2:])
    weight = weight.contiguous()
    addresses = (padded.data_ptr(), weight.data_ptr(), out.data_ptr())
    entries.correlate(_TAGS[maps.dtype], *addresses, *sizes, False, *crew(maps.numel() * k * k))
    return out


def filter_maps_backward(g: Tensor, maps: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    (n, inputs, h, w), (outputs, _, k, _) = maps.shape, weight.shape
    tag, work = _TAGS[maps.dtype], crew(maps.numel() * k * k)
    padded, bordered, weight = _bordered(maps, k), _bordered(g, k), weight.contiguous()
    dmaps = torch.empty(maps.shape, dtype=maps.dtype)
    size = padded.shape[2:]
    entries.correlate(
        tag, bordered.data_ptr(), weight.data_ptr(), dmaps.data_ptr(), n, outputs, inputs, h, w, k, *size, True, *work
    )
    slot = -(-k // 4) * 4
    dweight = torch.empty(outputs, inputs, k, slot, dtype=maps.dtype)
    addresses = (bordered.data_ptr(), padded.data_ptr(), dweight.data_ptr())
    entries.weigh(tag, *addresses, n, inputs, outputs, h, w, k, *size, slot, *work)
    return dmaps, dweight[..., :k].contiguous()


def _bordered(maps: Tensor, k: int) -> Tensor:
    """Return maps with k // 2 zeros around them, rows long enough for whole vectors, and some more to read beyond the
    last.
    """
    n, c, h, w = maps.shape
    out = _border(n, c, h, w, k, maps.dtype)
    out[:, :, k // 2 : k // 2 + h, k // 2 : k // 2 + w] = maps
    return out


def _border(n: int, c: int, h: int, w: int, k: int, kind: torch.dtype) -> Tensor:
    return torch.zeros(n, c, h + k, -(-w // 16) * 16 + k + 3, dtype=kind)
