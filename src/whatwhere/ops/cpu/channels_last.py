"""Kernels for maps in channels_last: a row is one place of one image, its lanes are the channels.

As :mod:`whatwhere.ops.cpu.planar`, with rows and lanes changed over: what is a number per row there is a number per
lane here.
"""

import numpy as np
from numba import njit

from .planar import optional
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
def _space_step(tag, x, shift, sign, out, spots, image, c, p, j, mask, top, stop, kinds):
    at = image * kinds * c + j
    s, best, q, where = splat(tag, 0.0), splat(tag, -np.inf), splat(tag, 0.0), splat(tag, 0.0)
    if top > 0:
        s = load_small(tag, out, at, mask)
        if spots:
            best, where = load_small(tag, out, at + c, mask), load_small(tag, spots, image * c + j, mask)
        if kinds == 3:
            q = load_small(tag, out, at + 2 * c, mask)
    k, sg = optional(tag, shift, j, mask, 0.0), optional(tag, sign, j, mask, 1.0)
    here, one = splat(tag, top), splat(tag, 1.0)
    for row in range(top, stop):
        w = load(tag, x, (image * p + row) * c + j, mask)
        if shift:
            w = w - k
        s = s + w
        if kinds == 3:
            q = q + w * w
        if spots:
            key = w * sg if sign else w
            new = greater(key, best)
            where = choose(new, here, where)
            best = choose(new, key, best)
        here = here + one
    store_small(tag, out, at, mask, s)
    if kinds > 1 and not spots:
        store_small(tag, out, at + c, mask, splat(tag, 0.0))
    if kinds == 3:
        store_small(tag, out, at + 2 * c, mask, q)
    if spots:
        store_small(tag, out, at + c, mask, best)
        store_small(tag, spots, image * c + j, mask, where)


@kernel
def _space_end(tag, x, shift, sign, out, spots, image, c, p, j, mask, kinds):
    """Make means of sums; fetch the values at the places; where a sum is NaN, look for the greatest again with NaN."""
    at = image * kinds * c + j
    sums = load_small(tag, out, at, mask)
    store_small(tag, out, at, mask, sums * splat(tag, 1.0 / p))
    if kinds == 3:
        store_small(tag, out, at + 2 * c, mask, load_small(tag, out, at + 2 * c, mask) * splat(tag, 1.0 / p))
    if not spots:
        return
    check = total(sums)
    if check != check:
        best, where = splat(tag, -np.inf), splat(tag, 0.0)
        for row in range(p):
            w = load(tag, x, (image * p + row) * c + j, mask) - optional(tag, shift, j, mask, 0.0)
            key = w * load_small(tag, sign, j, mask) if sign else w
            new = beats(key, best)
            where = choose(new, splat(tag, row), where)
            best = choose(new, key, best)
        store_small(tag, out, at + c, mask, best)
        store_small(tag, spots, image * c + j, mask, where)
    if sign:
        for channel in range(j, min(j + 16, c)):
            place = int(get(tag, spots, image * c + channel))
            k = get(tag, shift, channel) if shift else 0.0
            value = total(load(tag, x, (image * p + place) * c + channel, first(1))) - k
            put(tag, out, image * kinds * c + c + channel, value)


@kernel
def squeeze_space(task, tag, x, shift, sign, out, spots, c, p, tiles, tile, kinds):
    """One tile of the channels of one image: sixteen places at a time, the results so far in the output."""
    image = task // tiles
    start = (task - image * tiles) * tile
    end = min(start + tile, c)
    full = end - (end - start) % 16
    for top in range(0, p, 16):
        stop = min(top + 16, p)
        for j in range(start, full, 16):
            _space_step(tag, x, shift, sign, out, spots, image, c, p, j, every(), top, stop, kinds)
        if full < end:
            _space_step(tag, x, shift, sign, out, spots, image, c, p, full, first(end - full), top, stop, kinds)
    for j in range(start, end, 16):
        _space_end(tag, x, shift, sign, out, spots, image, c, p, j, first(end - j), kinds)


@step
def _channel_step(tag, x, base, shift, scale, bias, image, c, j, mask, careful, sums):
    s, best, where = sums
    v = load(tag, x, base + j, mask)
    if shift:
        v = v - load_small(tag, shift, j, mask)
    if scale:
        v = v * load_small(tag, scale, image * c + j, mask)
    if bias:
        v = v + load_small(tag, bias, image * c + j, mask)
    new = both(beats(v, best) if careful else greater(v, best), mask)
    where = choose(new, places(tag, j), where)
    return s + choose(mask, v, splat(tag, 0.0)), choose(new, v, best), where


@step
def _channel_row(tag, x, base, shift, scale, bias, image, c, careful):
    sums = (splat(tag, 0.0), splat(tag, -np.inf), places(tag, 0))
    full = c - c % 16
    for j in range(0, full, 16):
        sums = _channel_step(tag, x, base, shift, scale, bias, image, c, j, every(), careful, sums)
    if full < c:
        sums = _channel_step(tag, x, base, shift, scale, bias, image, c, full, first(c - full), careful, sums)
    return sums


@kernel
def squeeze_channels(task, tag, x, shift, scale, bias, out, spots, n, c, p, rows):
    """Rows ``task * rows …`` of all images."""
    for row in range(task * rows, min((task + 1) * rows, n * p)):
        image = row // p
        at = image * 2 * p + row - image * p
        sums = _channel_row(tag, x, row * c, shift, scale, bias, image, c, False)
        mean = total(sums[0]) / c
        if mean != mean:
            sums = _channel_row(tag, x, row * c, shift, scale, bias, image, c, True)
        channel = winner(sums[1], sums[2])
        put(tag, out, at + p, mean)
        put(tag, spots, row, channel)
        k = get(tag, shift, channel) if shift else 0.0
        a = get(tag, scale, image * c + channel) if scale else 1.0
        b = get(tag, bias, image * c + channel) if bias else 0.0
        put(tag, out, at, (total(load(tag, x, row * c + channel, first(1))) - k) * a + b)


@step
def _apply_gates_step(tag, x, shift, scale, bias, residual, y, base, image, c, j, mask, s, gated, relu):
    v = load(tag, x, base + j, mask) - optional(tag, shift, j, mask, 0.0)
    v = v * optional(tag, scale, image * c + j, mask, 1.0) + optional(tag, bias, image * c + j, mask, 0.0)
    if gated:
        v = v * s
    if residual:
        v = v + load(tag, residual, base + j, mask)
    if relu:
        v = rectify(v)
    store(tag, y, base + j, mask, v)


@kernel
def apply_gates(task, tag, x, shift, scale, bias, spatial, residual, y, n, c, p, rows, relu):
    """Rows ``task * rows …`` of all images."""
    full = c - c % 16
    for row in range(task * rows, min((task + 1) * rows, n * p)):
        image = row // p
        s = splat(tag, get(tag, spatial, row) if spatial else 1.0)
        for j in range(0, full, 16):
            _apply_gates_step(tag, x, shift, scale, bias, residual, y, row * c, image, c, j, every(), s, spatial, relu)
        if full < c:
            _apply_gates_step(
                tag, x, shift, scale, bias, residual, y, row * c, image, c, full, first(c - full), s, spatial, relu
            )


@step
def _add(tag, out, index, mask, start, value):
    if not start:
        value = value + load_small(tag, out, index, mask)
    store_small(tag, out, index, mask, value)


@step
def _backward_step(tag, g, x, y, masked, shift, scale, bias, sums, base, image, at, c, j, mask, s, gated, start, place):
    zero = splat(tag, 0.0)
    dy = load(tag, g, base + j, mask)
    if y:
        dy = choose(reaches(zero, load(tag, y, base + j, mask)), zero, dy)
        store(tag, masked, base + j, mask, dy)
    w = choose(mask, load(tag, x, base + j, mask) - optional(tag, shift, j, mask, 0.0), zero)
    gs = dy
    if gated:
        gs = dy * s
        v = w * optional(tag, scale, image * c + j, mask, 1.0) + optional(tag, bias, image * c + j, mask, 0.0)
        place = place + dy * v
    _add(tag, sums, at + j, mask, start, gs * w)
    if bias:
        _add(tag, sums, at + c + j, mask, start, gs)
    return place


@kernel
def apply_gates_backward(
    task, tag, g, x, y, masked, shift, scale, bias, spatial, sums, places_sum, c, p, chunks, chunk
):
    """One chunk of the places of one image; its sums over them are one slot of ``sums``, ``(N, chunks, 2, C)``."""
    image = task // chunks
    start = (task - image * chunks) * chunk
    full = c - c % 16
    for row in range(start, min(start + chunk, p)):
        base = (image * p + row) * c
        s = splat(tag, get(tag, spatial, image * p + row) if spatial else 1.0)
        place = splat(tag, 0.0)
        for j in range(0, full, 16):
            place = _backward_step(
                tag, g, x, y, masked, shift, scale, bias, sums, base, image, task * 2 * c, c, j, every(), s, spatial,
                row == start, place
            )  # fmt: skip
        if full < c:
            place = _backward_step(
                tag, g, x, y, masked, shift, scale, bias, sums, base, image, task * 2 * c, c, full, first(c - full),
                s, spatial,
                row == start, place,
            )  # fmt: skip
        if spatial:
            put(tag, places_sum, image * p + row, total(place))


@step
def _line_gradient(tag, j, peak, mean, channel):
    """Return 16 channels of the gradient that the squeeze over channels gives to one place."""
    return mean + choose(same(places(tag, j), channel), peak, splat(tag, 0.0))


@step
def _line(tag, lines, spots, image, c, p, place):
    """Return what the squeeze over channels gives to one place: to the greatest, to each, and which the greatest is."""
    at = image * 2 * p + place
    where = splat(tag, get(tag, spots, image * p + place))
    return splat(tag, get(tag, lines, at)), splat(tag, get(tag, lines, at + p) / c), where


@kernel
def squeeze_channels_backward(task, tag, x, shift, lines, spots, sums, c, p, chunks, chunk):
    """One chunk of the places of one image; its sums are one slot of ``sums``, ``(N, chunks, 2, C)``."""
    image = task // chunks
    start = (task - image * chunks) * chunk
    at = task * 2 * c
    for row in range(start, min(start + chunk, p)):
        peak, mean, channel = _line(tag, lines, spots, image, c, p, row)
        for j in range(0, c, 16):
            mask = first(c - j)
            w = load(tag, x, (image * p + row) * c + j, mask) - optional(tag, shift, j, mask, 0.0)
            dv = _line_gradient(tag, j, peak, mean, channel)
            _add(tag, sums, at + j, mask, row == start, dv * w)
            _add(tag, sums, at + c + j, mask, row == start, dv)


@step
def _gather_step(
    tag, g, x, shift, scale, points, spots, dx, base, image, c, over, j, mask, s, gated, lined, line, row, kinds
):
    d = splat(tag, 0.0)
    if g:
        d = load(tag, g, base + j, mask)
        if gated:
            d = d * s
    if lined:
        d = d + _line_gradient(tag, j, line[0], line[1], line[2])
    d = d * optional(tag, scale, image * c + j, mask, 1.0)
    if points:
        at = image * kinds * c + j
        d = d + load_small(tag, points, at, mask) * over
        if spots:
            hit = same(load_small(tag, spots, image * c + j, mask), row)
            d = d + choose(hit, load_small(tag, points, at + c, mask), splat(tag, 0.0))
        if x:
            w = load(tag, x, base + j, mask) - optional(tag, shift, j, mask, 0.0)
            d = d + w * (load_small(tag, points, at + 2 * c, mask) * (over + over))
    store(tag, dx, base + j, mask, d)


@kernel
def gather(task, tag, g, x, shift, scale, spatial, lines, channels, points, spots, dx, n, c, p, rows, kinds):
    """Rows ``task * rows …`` of all images; ``kinds`` is how many of mean, peak and square there are in ``points``."""
    full = c - c % 16
    over = splat(tag, 1.0 / p)
    for row in range(task * rows, min((task + 1) * rows, n * p)):
        image = row // p
        here = splat(tag, row - image * p)
        s = splat(tag, get(tag, spatial, row) if spatial else 1.0)
        line = (s, s, s)
        if lines:
            line = _line(tag, lines, channels, image, c, p, row - image * p)
        for j in range(0, full, 16):
            _gather_step(
                tag, g, x, shift, scale, points, spots, dx, row * c, image, c, over, j, every(), s, spatial, lines,
                line, here, kinds
            )  # fmt: skip
        if full < c:
            mask = first(c - full)
            _gather_step(
                tag, g, x, shift, scale, points, spots, dx, row * c, image, c, over, full, mask, s, spatial, lines,
                line, here, kinds
            )  # fmt: skip
