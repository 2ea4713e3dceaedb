# mypy: disable-error-code="import-untyped, no-untyped-call"
"""How a map lies in memory, how it is cut into tiles, and how a kernel is started on it.

Every kernel works on tiles of ``BLOCK_C`` channels by ``BLOCK_P`` places and serves both memory formats: a map is told
by two strides, one of which is 1, and the tile is long in that direction, so that neighbouring threads read
neighbouring addresses. An image's offset is computed in 64 bits; within an image 32 bits are enough up to 2³¹ numbers,
and 64 bits are taken above.
"""

from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from ..dtypes import accumulator

ENOUGH = 1024
"""Programs that fill a GPU. It does not depend on the GPU, so that results do not either."""

WIDE, SIZE = 128, 2048
"""Numbers of a tile along the direction that is contiguous, and in all."""

NARROW = 2**31
"""Numbers in an image from which on offsets within it take 64 bits."""


class Tiles(NamedTuple):
    """A map as the kernels see it: C channels by H·W places of every image, their strides, and the tiles they are cut
    into.
    """

    x: Tensor
    images: int
    channels: int
    places: int
    channel_step: int
    place_step: int
    block_c: int
    block_p: int

    @property
    def c_blocks(self) -> int:
        """Tiles from the first channel to the last."""
        return -(-self.channels // self.block_c)

    @property
    def p_blocks(self) -> int:
        """Tiles from the first place to the last."""
        return -(-self.places // self.block_p)

    @property
    def dtype(self) -> torch.dtype:
        """What is computed with, and the dtype of every small tensor."""
        return accumulator(self.x)

    def like(self, other: Tensor | None) -> Tensor | None:
        """Return another map in this one's memory format: itself, if it is in it."""
        if other is None:
            return None
        return other.contiguous(memory_format=torch.contiguous_format if self.place_step == 1 else torch.channels_last)

    def new(self, *shape: int) -> Tensor:
        """Return an empty small tensor."""
        return self.x.new_empty(shape, dtype=self.dtype)


def tiles_of(x: Tensor, square: bool = False) -> Tiles:
    """Cut a map; one in neither memory format is copied to a contiguous one.

    ``square`` makes tiles half as wide, for moves that sum over both directions and so write less the longer a tile is
    in either.
    """
    images, channels, h, w = x.shape
    places = h * w
    wide = WIDE // 2 if square else WIDE
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        block_c = min(_power_of_two(channels), wide)
        block_p = min(_power_of_two(places), SIZE // block_c)
        return Tiles(x, images, channels, places, 1, channels, block_c, block_p)
    block_p = min(_power_of_two(places), wide)
    block_c = min(_power_of_two(channels), SIZE // block_p)
    return Tiles(x.contiguous(), images, channels, places, places, 1, block_c, block_p)


def chunks_of(programs: int, blocks: int) -> tuple[int, int]:
    """Return into how many chunks a reduction over so many blocks is cut, and the blocks in a chunk.

    One chunk where the other programs fill a GPU (many images); more, whose partial results a second step joins in
    order, where they do not.
    """
    chunks = min(blocks, max(1, ENOUGH // max(1, programs)))
    steps = -(-blocks // chunks)
    return -(-blocks // steps), steps


def launch(kernel: Any, programs: int, tiles: Tiles, **arguments: Any) -> None:
    """Start a kernel that works on tiles."""
    start(
        kernel,
        programs,
        tiles.x,
        channels=tiles.channels,
        places=tiles.places,
        channel_step=tiles.channel_step,
        place_step=tiles.place_step,
        NUMBER=tl.float64 if tiles.dtype == torch.float64 else tl.float32,
        INDEX=tl.int32 if tiles.channels * tiles.places < NARROW else tl.int64,
        BLOCK_C=tiles.block_c,
        BLOCK_P=tiles.block_p,
        **arguments,
    )


def start(kernel: Any, programs: int, where: Tensor, **arguments: Any) -> None:
    """Start a kernel on the device of a tensor, on the current stream; no programs (no images), no start."""
    if programs:
        with torch.cuda.device_of(where):
            kernel[(programs,)](num_warps=8, enable_fp_fusion=True, **arguments)


def dense(*small: Tensor | None) -> list[Tensor | None]:
    """Return small tensors as the kernels read them, contiguous: gradients may come expanded, gates as slices."""
    return [None if t is None else t.contiguous() for t in small]


def _power_of_two(count: int) -> int:
    """Return the smallest power of two that is not below ``count``."""
    return 1 << (count - 1).bit_length()
