"""The small convolution of spatial attention: few maps in, few out, a large kernel. Elsewhere such a convolution is as
slow as a large one.

The maps come with a border of zeros, each row as long as whole vectors need, so that nothing is masked.
"""

from numba import njit

from .simd import every, first, get, load_small, put, splat, store_small, total

kernel = njit(error_model="numpy")
step = njit(error_model="numpy", forceinline=True)


@step
def _column(tag, padded, weight, at, at_weight, h_padded, w_padded, inputs, outputs, k, turned, rows):
    """Return four rows of 16 results; ``at`` is where the window of the first begins."""
    a = b = c = d = splat(tag, 0.0)
    for p in range(inputs):
        for i in range(k):
            row = at + (p * h_padded + i) * w_padded
            for j in range(k):
                if turned:  # the gradient: inputs and outputs change places, the kernel is turned round
                    w = splat(tag, get(tag, weight, ((p * outputs) * k + k - 1 - i) * k + k - 1 - j + at_weight))
                else:
                    w = splat(tag, get(tag, weight, (p * k + i) * k + j + at_weight))
                a = a + w * load_small(tag, padded, row + j, every())
                if rows == 4:
                    b = b + w * load_small(tag, padded, row + w_padded + j, every())
                    c = c + w * load_small(tag, padded, row + 2 * w_padded + j, every())
                    d = d + w * load_small(tag, padded, row + 3 * w_padded + j, every())
    return a, b, c, d


@kernel
def correlate(task, tag, padded, weight, out, inputs, outputs, h, w, k, h_padded, w_padded, turned):
    """One map of the output of one image."""
    image = task // outputs
    o = task - image * outputs
    at_weight = o * k * k if turned else o * inputs * k * k
    start = image * inputs * h_padded * w_padded
    for x in range(0, w, 16):
        mask = first(w - x)
        y = 0
        while y + 4 <= h:
            four = _column(
                tag, padded, weight, start + y * w_padded + x, at_weight, h_padded, w_padded, inputs, outputs, k,
                turned, 4
            )  # fmt: skip
            for r in range(4):
                value = four[0] if r == 0 else four[1] if r == 1 else four[2] if r == 2 else four[3]
                store_small(tag, out, (task * h + y + r) * w + x, mask, value)
            y += 4
        while y < h:
            one = _column(
                tag, padded, weight, start + y * w_padded + x, at_weight, h_padded, w_padded, inputs, outputs, k,
                turned, 1
            )  # fmt: skip
            store_small(tag, out, (task * h + y) * w + x, mask, one[0])
            y += 1


@kernel
def weigh(task, tag, g, padded, dweight, n, inputs, outputs, h, w, k, h_padded, w_padded, slot):
    """One row of the kernel's gradient, ``slot`` numbers long: the sum over all places of g times the map moved by that
    much.
    """
    i = task % k
    p = (task // k) % inputs
    o = task // (k * inputs)
    r = k // 2
    for j in range(0, k, 4):
        zero = splat(tag, 0.0)
        a, b, c, d = zero, zero, zero, zero
        for image in range(n):
            for y in range(h):
                at_g = ((image * outputs + o) * h_padded + y + r) * w_padded + r
                at = ((image * inputs + p) * h_padded + y + i) * w_padded + j
                for x in range(0, w, 16):
                    gv = load_small(tag, g, at_g + x, every())
                    a = a + gv * load_small(tag, padded, at + x, every())
                    b = b + gv * load_small(tag, padded, at + x + 1, every())
                    c = c + gv * load_small(tag, padded, at + x + 2, every())
                    d = d + gv * load_small(tag, padded, at + x + 3, every())
        put(tag, dweight, task * slot + j, total(a))
        put(tag, dweight, task * slot + j + 1, total(b))
        put(tag, dweight, task * slot + j + 2, total(c))
        put(tag, dweight, task * slot + j + 3, total(d))
