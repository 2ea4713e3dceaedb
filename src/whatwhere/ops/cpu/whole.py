"""A whole attention, image by image, where no gradient is asked for: an image is still in the cache when it is read
again.

Between the moves stands what weighs the squeezed numbers: two dense layers for the channels, a convolution and an
affine for the places.
"""

from numba import njit

from . import channels_last, filters, planar
from .planar import optional
from .simd import choose, first, get, greater, load_small, logistic, put, splat, store_small, total

kernel = njit(error_model="numpy")
step = njit(error_model="numpy", forceinline=True)


@step
def _gate(tag, z, hard, factor):
    """Return 16 gates: sigmoid or hard sigmoid, times 1 or 2."""
    if hard:
        zero, one = splat(tag, 0.0), splat(tag, 1.0)
        g = (z + splat(tag, 3.0)) * splat(tag, 1.0 / 6.0)
        g = choose(greater(zero, g), zero, g)
        g = choose(greater(g, one), one, g)
    else:
        g = logistic(z)
    return g * splat(tag, factor)


@step
def _dot(tag, a, b, n):
    s = splat(tag, 0.0)
    for j in range(0, n, 16):
        mask = first(n - j)
        s = s + load_small(tag, a, j, mask) * load_small(tag, b, j, mask)
    return total(s)


@kernel
def weigh_channels(
    image, tag, size, values, a, b, w1, b1, w2, b2, hidden, scale, bias, c, width, kinds, top, pools, hard, factor
):
    """Make scale and bias of the means and peaks of one image: a·gate and b·gate. ``top`` is the first row of
    ``values`` that counts.
    """
    here, squeezed = image * c, values + (image * kinds + top) * c * size
    for pool in range(pools):
        for j in range(0, c, 16):
            mask = first(c - j)
            u = load_small(tag, squeezed, pool * c + j, mask) * optional(tag, a, j, mask, 1.0) + optional(
                tag, b, j, mask, 0.0
            )
            store_small(tag, squeezed, pool * c + j, mask, u)
    for h in range(width):
        offset = get(tag, b1, h) if b1 else 0.0
        summed = 0.0
        for pool in range(pools):
            z = _dot(tag, w1 + h * c * size, squeezed + pool * c * size, c) + offset
            summed += z if not z <= 0 else 0.0
        put(tag, hidden, image * width + h, summed)
    for channel in range(c):
        put(tag, scale, here + channel, _dot(tag, w2 + channel * width * size, hidden + image * width * size, width))
    for j in range(0, c, 16):
        mask = first(c - j)
        z = load_small(tag, scale, here + j, mask) + optional(tag, b2, j, mask, 0.0) * splat(tag, pools)
        gate = _gate(tag, z, hard, factor)
        store_small(tag, scale, here + j, mask, optional(tag, a, j, mask, 1.0) * gate)
        if b:
            store_small(tag, bias, here + j, mask, load_small(tag, b, j, mask) * gate)


@kernel
def weigh_places(
    image, tag, found, padded, weight, affine, spatial, h, w, k, h_padded, w_padded, top, pools, turn, hard, factor
):
    """Make the spatial gate of one image of the maps ``found``; ``turn``: their order is turned round."""
    r = k // 2
    for pool in range(pools):
        source = (image * 2 + (pools - 1 - pool if turn else pool + top)) * h * w
        for y in range(h):
            at = ((image * pools + pool) * h_padded + y + r) * w_padded + r
            for x in range(0, w, 16):
                mask = first(w - x)
                store_small(tag, padded, at + x, mask, load_small(tag, found, source + y * w + x, mask))
    filters.correlate(image, tag, padded, weight, spatial, pools, 1, h, w, k, h_padded, w_padded, False)
    a, b = splat(tag, get(tag, affine, 0)), splat(tag, get(tag, affine, 1))
    for j in range(0, h * w, 16):
        mask = first(h * w - j)
        z = load_small(tag, spatial, image * h * w + j, mask) * a + b
        store_small(tag, spatial, image * h * w + j, mask, _gate(tag, z, hard, factor))


@kernel
def planar_image(task, tag, x, y, residual, relu, what, where, n, c, p):
    """One image of a contiguous map; ``what`` and ``where`` are arguments and results of the two weighings."""
    scale, bias, values, spots, sign, dense, kinds = what[:7]
    if dense:
        planar.squeeze_space(task, tag, x, 0, sign, values, spots, n, c, p, c, kinds)
        weigh_channels(task, tag, *what[7:])
    found, channels, spatial, filtered = where[:4]
    if filtered:
        planar.squeeze_channels(task, tag, x, 0, scale, bias, found, channels, c, p, 1, p)
        weigh_places(task, tag, *where[4:])
    planar.apply_gates(task, tag, x, 0, scale, bias, spatial, residual, y, n, c, p, c, relu)


@kernel
def last_image(task, tag, x, y, residual, relu, what, where, n, c, p):
    """One image of a map in channels_last."""
    scale, bias, values, spots, sign, dense, kinds = what[:7]
    if dense:
        channels_last.squeeze_space(task, tag, x, 0, sign, values, spots, c, p, 1, c, kinds)
        weigh_channels(task, tag, *what[7:])
    found, channels, spatial, filtered = where[:4]
    if filtered:
        channels_last.squeeze_channels(task, tag, x, 0, scale, bias, found, channels, n, c, p, p)
        weigh_places(task, tag, *where[4:])
    channels_last.apply_gates(task, tag, x, 0, scale, bias, spatial, residual, y, n, c, p, p, relu)
