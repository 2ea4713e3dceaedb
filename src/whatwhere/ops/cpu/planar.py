"""Kernels for maps that lie channel after channel, ``(N, C, H, W)`` contiguous: a row is one channel of one image, its
lanes are the places.

Each function does one task of one move (:mod:`whatwhere.ops.moves` says what the moves compute). Addresses are int64, 0
for what is not there; there are ``n`` images of ``c`` channels and ``p`` places. A step function does 16 lanes; the
last step of a row is masked.
"""

import numpy as np
from numba import njit

from .simd import (
    beats,
    both,
    choose,
    every,
    first,
    get,
    greater,
    load,
    load_small,
    places,
    put,
    reaches,
    rectify,
    same,
    splat,
    store,
    store_small,
    total,
    winner,
)

kernel = njit(error_model="numpy")
step = njit(error_model="numpy", forceinline=True)


@step
def optional(tag, array, index, mask, otherwise):
    """Return 16 numbers of an array, or a constant where there is no array."""
    if array:
        return load_small(tag, array, index, mask)
    return splat(tag, otherwise)


@step
def _space_step(tag, x, base, j, mask, shift, k, sign, sg, peaks, squares, careful, sums):
    s, q, best, where = sums
    w = load(tag, x, base + j, mask)
    if shift:
        w = choose(mask, w - k, splat(tag, 0.0))
    s = s + w
    if squares:
        q = q + w * w
    if peaks:
        key = w * sg if sign else w
        new = both(beats(key, best) if careful else greater(key, best), mask)
        where = choose(new, places(tag, j), where)
        best = choose(new, key, best)
    return s, q, best, where


@step
def _space_row(tag, x, base, p, shift, k, sign, sg, peaks, squares, careful):
    zero = splat(tag, 0.0)
    sums = (zero, zero, splat(tag, -np.inf), places(tag, 0))
    full = p - p % 16
    for j in range(0, full, 16):
        sums = _space_step(tag, x, base, j, every(), shift, k, sign, sg, peaks, squares, careful, sums)
    if full < p:
        sums = _space_step(tag, x, base, full, first(p - full), shift, k, sign, sg, peaks, squares, careful, sums)
    return sums


@kernel
def squeeze_space(task, tag, x, shift, sign, out, spots, n, c, p, rows, kinds):
    """Rows ``task * rows …`` of all images; ``kinds`` is how many of mean, peak and square are asked for."""
    for row in range(task * rows, min((task + 1) * rows, n * c)):
        image = row // c
        channel = row - image * c
        at = image * kinds * c + channel
        k = get(tag, shift, channel) if shift else 0.0
        sg = get(tag, sign, channel) if sign else 1.0
        ks, sgs = splat(tag, k), splat(tag, sg)
        sums = _space_row(tag, x, row * p, p, shift, ks, sign, sgs, spots, kinds == 3, False)
        mean = total(sums[0]) / p
        put(tag, out, at, mean)
        if kinds > 1 and not spots:
            put(tag, out, at + c, 0.0)
        if kinds == 3:
            put(tag, out, at + 2 * c, total(sums[1]) / p)
        if spots:
            if mean != mean:
                sums = _space_row(tag, x, row * p, p, shift, ks, sign, sgs, spots, False, True)
            place = winner(sums[2], sums[3])
            put(tag, out, at + c, total(load(tag, x, row * p + place, first(1))) - k)
            put(tag, spots, row, place)


@step
def _channel_step(tag, x, shift, scale, bias, out, spots, image, c, p, j, mask, top, stop):
    at = image * 2 * p + j
    s, best, where = splat(tag, 0.0), splat(tag, -np.inf), splat(tag, 0.0)
    if top > 0:
        best, s = load_small(tag, out, at, mask), load_small(tag, out, at + p, mask)
        where = load_small(tag, spots, image * p + j, mask)
    here, one = splat(tag, top), splat(tag, 1.0)
    for channel in range(top, stop):
        k, a, b = coefficients(tag, shift, scale, bias, image * c, channel)
        v = load(tag, x, (image * c + channel) * p + j, mask)
        if shift:
            v = v - splat(tag, k)
        if scale:
            v = v * splat(tag, a)
        if bias:
            v = v + splat(tag, b)
        s = s + v
        new = greater(v, best)
        where = choose(new, here, where)
        best = choose(new, v, best)
        here = here + one
    store_small(tag, out, at, mask, best)
    store_small(tag, out, at + p, mask, s)
    store_small(tag, spots, image * p + j, mask, where)


@kernel
def _channel_end(tag, x, shift, scale, bias, out, spots, image, c, p, j, mask):
    """Make means of sums; where a sum is NaN, look for the greatest again, NaN counted."""
    at = image * 2 * p + j
    sums = load_small(tag, out, at + p, mask)
    store_small(tag, out, at + p, mask, sums * splat(tag, 1.0 / c))
    check = total(sums)
    if check != check:
        best, where = splat(tag, -np.inf), splat(tag, 0.0)
        for channel in range(c):
            k, a, b = coefficients(tag, shift, scale, bias, image * c, channel)
            v = (load(tag, x, (image * c + channel) * p + j, mask) - splat(tag, k)) * splat(tag, a) + splat(tag, b)
            new = beats(v, best)
            where = choose(new, splat(tag, channel), where)
            best = choose(new, v, best)
        store_small(tag, out, at, mask, best)
        store_small(tag, spots, image * p + j, mask, where)


@step
def coefficients(tag, shift, scale, bias, image, channel):
    """Return shift, scale and bias of one channel of the image whose channels start at ``image``."""
    k = get(tag, shift, channel) if shift else 0.0
    a = get(tag, scale, image + channel) if scale else 1.0
    b = get(tag, bias, image + channel) if bias else 0.0
    return k, a, b


@kernel
def squeeze_channels(task, tag, x, shift, scale, bias, out, spots, c, p, tiles, tile):
    """One tile of the places of one image: sixteen channels at a time, the results so far in the output."""
    image = task // tiles
    start = (task - image * tiles) * tile
    end = min(start + tile, p)
    full = end - (end - start) % 16
    for top in range(0, c, 16):
        stop = min(top + 16, c)
        for j in range(start, full, 16):
            _channel_step(tag, x, shift, scale, bias, out, spots, image, c, p, j, every(), top, stop)
        if full < end:
            _channel_step(tag, x, shift, scale, bias, out, spots, image, c, p, full, first(end - full), top, stop)
    for j in range(start, end, 16):
        _channel_end(tag, x, shift, scale, bias, out, spots, image, c, p, j, first(end - j))


@step
def _apply_gates_step(tag, x, spatial, residual, y, base, gate, j, mask, k, a, b, relu):
    v = (load(tag, x, base + j, mask) - k) * a + b
    if spatial:
        v = v * load_small(tag, spatial, gate + j, mask)
    if residual:
        v = v + load(tag, residual, base + j, mask)
    if relu:
        v = rectify(v)
    store(tag, y, base + j, mask, v)


@kernel
def apply_gates(task, tag, x, shift, scale, bias, spatial, residual, y, n, c, p, rows, relu):
    """Rows ``task * rows …`` of all images."""
    full = p - p % 16
    for row in range(task * rows, min((task + 1) * rows, n * c)):
        image = row // c
        k, a, b = coefficients(tag, shift, scale, bias, image * c, row - image * c)
        ks, sa, sb = splat(tag, k), splat(tag, a), splat(tag, b)
        for j in range(0, full, 16):
            _apply_gates_step(tag, x, spatial, residual, y, row * p, image * p, j, every(), ks, sa, sb, relu)
        if full < p:
            _apply_gates_step(tag, x, spatial, residual, y, row * p, image * p, full, first(p - full), ks, sa, sb, relu)


@step
def _backward_step(tag, g, x, y, masked, spatial, places_sum, base, gate, at, j, mask, k, a, b, start, s2, s1):
    zero = splat(tag, 0.0)
    dy = load(tag, g, base + j, mask)
    if y:
        dy = choose(reaches(zero, load(tag, y, base + j, mask)), zero, dy)
        store(tag, masked, base + j, mask, dy)
    w = choose(mask, load(tag, x, base + j, mask) - k, zero)
    gs = dy
    if spatial:
        gs = dy * load_small(tag, spatial, gate + j, mask)
        part = dy * (w * a + b)
        if not start:
            part = part + load_small(tag, places_sum, at + j, every())
        store_small(tag, places_sum, at + j, every(), part)
    return s2 + gs * w, s1 + gs


@kernel
def apply_gates_backward(
    task, tag, g, x, y, masked, shift, scale, bias, spatial, sums, places_sum, c, p, chunks, chunk
):
    """One chunk of the channels of one image; its sums over them are one slot of ``places_sum``, ``(N, chunks,
    padded)``.

    A slot is as long as whole vectors are: a masked store would hold up the load of the next channel.
    """
    image = task // chunks
    start = (task - image * chunks) * chunk
    full = p - p % 16
    slot = task * (full if full == p else full + 16)
    for channel in range(start, min(start + chunk, c)):
        base = (image * c + channel) * p
        k, a, b = coefficients(tag, shift, scale, bias, image * c, channel)
        ks, sa, sb = splat(tag, k), splat(tag, a), splat(tag, b)
        s2 = s1 = splat(tag, 0.0)
        for j in range(0, full, 16):
            s2, s1 = _backward_step(
                tag, g, x, y, masked, spatial, places_sum, base, image * p, slot, j, every(), ks, sa, sb,
                channel == start, s2, s1
            )  # fmt: skip
        if full < p:
            s2, s1 = _backward_step(
                tag, g, x, y, masked, spatial, places_sum, base, image * p, slot, full, first(p - full), ks, sa, sb,
                channel == start, s2, s1,
            )  # fmt: skip
        put(tag, sums, image * 2 * c + channel, total(s2))
        put(tag, sums, image * 2 * c + c + channel, total(s1))


@step
def _line_gradient(tag, lines, spots, image, p, j, mask, channel, over):
    """Return 16 places of the gradient that the squeeze over channels gives to one channel."""
    at = image * 2 * p + j
    hit = same(load_small(tag, spots, image * p + j, mask), channel)
    return load_small(tag, lines, at + p, mask) * over + choose(hit, load_small(tag, lines, at, mask), splat(tag, 0.0))


@kernel
def squeeze_channels_backward(task, tag, x, shift, lines, spots, sums, n, c, p, rows):
    """Rows ``task * rows …`` of all images."""
    over = splat(tag, 1.0 / c)
    for row in range(task * rows, min((task + 1) * rows, n * c)):
        image = row // c
        channel = row - image * c
        k = splat(tag, get(tag, shift, channel) if shift else 0.0)
        s2 = s1 = splat(tag, 0.0)
        for j in range(0, p, 16):
            mask = first(p - j)
            dv = _line_gradient(tag, lines, spots, image, p, j, mask, splat(tag, channel), over)
            w = choose(mask, load(tag, x, row * p + j, mask) - k, splat(tag, 0.0))
            s2 = s2 + dv * w
            s1 = s1 + choose(mask, dv, splat(tag, 0.0))
        put(tag, sums, image * 2 * c + channel, total(s2))
        put(tag, sums, image * 2 * c + c + channel, total(s1))


@step
def _gather_step(
    tag, g, x, spatial, lines, spots, dx, base, image, p, j, mask, channel, over, k, a, mean, square, peak, place
):
    d = splat(tag, 0.0)
    if g:
        d = load(tag, g, base + j, mask)
        if spatial:
            d = d * load_small(tag, spatial, image * p + j, mask)
    if lines:
        d = d + _line_gradient(tag, lines, spots, image, p, j, mask, channel, over)
    d = d * a + mean
    if x:
        d = d + (load(tag, x, base + j, mask) - k) * square
    d = d + choose(same(places(tag, j), place), peak, splat(tag, 0.0))
    store(tag, dx, base + j, mask, d)


@kernel
def gather(task, tag, g, x, shift, scale, spatial, lines, channels, points, spots, dx, n, c, p, rows, kinds):
    """Rows ``task * rows …`` of all images; ``kinds`` is how many of mean, peak and square there are in ``points``."""
    full = p - p % 16
    over = splat(tag, 1.0 / c)
    for row in range(task * rows, min((task + 1) * rows, n * c)):
        image = row // c
        channel = row - image * c
        k, a, _ = coefficients(tag, shift, scale, 0, image * c, channel)
        mean = square = peak = 0.0
        place = -1.0
        if points:
            at = image * kinds * c + channel
            mean = get(tag, points, at) / p
            if kinds == 3:
                square = 2.0 * get(tag, points, at + 2 * c) / p
            if spots:
                peak, place = get(tag, points, at + c) * 1.0, get(tag, spots, row) * 1.0
        here, ks, sa = splat(tag, channel), splat(tag, k), splat(tag, a)
        sm, sq, sp, where = splat(tag, mean), splat(tag, square), splat(tag, peak), splat(tag, place)
        for j in range(0, full, 16):
            _gather_step(
                tag, g, x, spatial, lines, channels, dx, row * p, image, p, j, every(), here, over, ks, sa, sm, sq,
                sp, where
            )  # fmt: skip
        if full < p:
            mask = first(p - full)
            _gather_step(
                tag, g, x, spatial, lines, channels, dx, row * p, image, p, full, mask, here, over, ks, sa, sm, sq,
                sp, where
            )  # fmt: skip
