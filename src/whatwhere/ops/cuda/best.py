# mypy: disable-error-code="import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"
"""The greatest of numbers and where it is: the first in a tie, and the first NaN where there is one.

Triton's own maximum with a place leaves open what becomes of NaN.
"""

import triton
import triton.language as tl
from torch import Tensor

from .tiles import start


@triton.jit
def beats(a, b):
    """Say whether ``a`` takes the place of an earlier ``b``: it is greater, or the first NaN."""
    return (a > b) | ((a != a) & (b == b))


@triton.jit
def best_of(values, indices, axis: tl.constexpr):
    """Return the best along an axis and the smallest of the indices that hold it."""
    broken = values != values
    top = tl.max(tl.where(broken, float("-inf"), values), axis)
    any_broken = tl.max(broken.to(tl.int32), axis) > 0
    holds = tl.where(tl.expand_dims(any_broken, axis), broken, values == tl.expand_dims(top, axis))
    index = tl.min(tl.where(holds, indices, 2147483647), axis)
    return tl.where(any_broken, float("nan"), top), index


@triton.jit(do_not_specialize=["blocks", "chunks"])
def join_kernel(
    parts, part_spots, sign, out, spots, columns, blocks, chunks,
    ROWS: tl.constexpr, MEAN: tl.constexpr, PEAK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Join ``(N, chunks, ROWS, columns)`` to ``(N, ROWS, columns)``: means (shares of one) are added, of peaks the best
    stays, with its spot.

    Without spots there are no peaks: their row is 0. A third row holds means of squares.

    The chunks are gone through in order, so that a later one must beat an earlier one: what comes first stays in a tie.
    """
    pid = tl.program_id(0)
    image = (pid // blocks).to(tl.int64)
    column = pid % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    part = parts + image * chunks * ROWS * columns + column
    out += image * ROWS * columns + column
    factor = 1.0
    if sign is not None:
        factor = tl.load(sign + column, mask=inside, other=0)
    mean = tl.load(part + MEAN * columns, mask=inside, other=0)
    peak = tl.full((BLOCK,), 0.0, mean.dtype)
    spot = tl.full((BLOCK,), 0.0, mean.dtype)
    square = tl.full((BLOCK,), 0.0, mean.dtype)
    if part_spots is not None:
        part_spots += image * chunks * columns + column
        peak = tl.load(part + PEAK * columns, mask=inside, other=0)
        spot = tl.load(part_spots, mask=inside, other=0)
    if ROWS == 3:
        square = tl.load(part + 2 * columns, mask=inside, other=0)
    for _ in range(1, chunks):
        part += ROWS * columns
        mean += tl.load(part + MEAN * columns, mask=inside, other=0)
        if part_spots is not None:
            part_spots += columns
            other = tl.load(part + PEAK * columns, mask=inside, other=0)
            better = beats(other * factor, peak * factor)
            peak = tl.where(better, other, peak)
            spot = tl.where(better, tl.load(part_spots, mask=inside, other=0), spot)
        if ROWS == 3:
            square += tl.load(part + 2 * columns, mask=inside, other=0)
    tl.store(out + MEAN * columns, mean, mask=inside)
    if ROWS > PEAK:
        tl.store(out + PEAK * columns, peak, mask=inside)
    if part_spots is not None:
        tl.store(spots + image * columns + column, spot, mask=inside)
    if ROWS == 3:
        tl.store(out + 2 * columns, square, mask=inside)


def join(
    parts: Tensor, part_spots: Tensor | None, sign: Tensor | None, *, mean: int, peak: int
) -> tuple[Tensor, Tensor]:
    """Join the parts of a squeeze, ``(N, chunks, rows, columns)``, and its spots, ``(N, chunks, columns)`` or None
    where it has no peaks.

    Args:
        parts: what each chunk of an image found.
        part_spots: where the peaks are.
        sign: (columns), multiplies the peaks before they are compared, or None.
        mean: the row of means.
        peak: the row of peaks, if there are so many.

    Returns:
        ``(N, rows, columns)``, and the spots: ``(N, columns)``, or an empty ``(0, columns)``.
    """
    images, chunks, rows, columns = parts.shape
    if chunks == 1:
        return parts[:, 0], parts.new_empty(0, columns) if part_spots is None else part_spots[:, 0]
    out, spots = parts.new_empty(images, rows, columns), parts.new_empty(0 if part_spots is None else images, columns)
    blocks = -(-columns // 256)
    start(
        join_kernel, images * blocks, parts, parts=parts, part_spots=part_spots, sign=sign, out=out,
        spots=None if part_spots is None else spots, columns=columns, blocks=blocks, chunks=chunks,
        ROWS=rows, MEAN=mean, PEAK=peak, BLOCK=256,
    )  # fmt: skip
    return out, spots
