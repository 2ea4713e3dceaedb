"""Compiling ahead: every kernel runs once on a small map, so that no later call has to wait for the compiler."""

from collections.abc import Iterator, Sequence

import torch

from .backends import BACKENDS, _obstacle
from .dtypes import accumulator

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
"""Dtypes of maps by name."""


def warm_up(dtypes: Sequence[str] = ("float32", "bfloat16")) -> Iterator[tuple[str, str]]:
    """Compile the kernels of every backend that can run here, for both memory formats.

    Compiled kernels are kept on disk (Numba: beside the source, or in the user's cache; Triton: in ``~/.triton``),
    where later processes find them.

    Args:
        dtypes: of the maps, out of ``float32``, ``bfloat16``, ``float16``, ``float64``.

    Yields:
        The name of the backend and the dtype, after each that is done.

    Example:
        >>> import whatwhere as ww
        >>> ("cpu", "float32") in list(ww.ops.warm_up(["float32"]))
        True
    """
    for backend in BACKENDS.values():
        if backend.device == "cuda" and not torch.cuda.is_available():
            continue
        for dtype in dtypes:
            x = torch.ones(2, 17, 5, 5, dtype=DTYPES[dtype], device=backend.device)
            if _obstacle(backend, x, backend.dtypes + backend.forced_dtypes):
                continue
            for layout in (torch.contiguous_format, torch.channels_last):
                _run_all(backend.name, x.contiguous(memory_format=layout))
            yield backend.name, dtype


def _run_all(backend: str, x: torch.Tensor) -> None:
    moves = BACKENDS[backend].load()
    (n, c, h, w), small = x.shape, accumulator(x)
    shift, scale, spatial = (x.new_ones(shape, dtype=small) for shape in ((c,), (n, c), (n, 1, h, w)))
    lines, channels = x.new_zeros(n, 2, h, w, dtype=small), x.new_zeros(n, h, w, dtype=small)
    points, spots, weight = (
        x.new_zeros(n, 3, c, dtype=small),
        x.new_zeros(n, c, dtype=small),
        lines.new_ones(1, 2, 3, 3),
    )
    moves.squeeze_space(x, shift, shift, 3, True)
    moves.squeeze_channels(x, shift, scale, scale)
    y = moves.apply_gates(x, shift, scale, scale, spatial, x, True)
    moves.apply_gates_backward(x, x, y, shift, scale, scale, spatial)
    moves.squeeze_channels_backward(x, shift, lines, channels)
    moves.gather(x, x, shift, scale, spatial, lines, channels, points, spots)
    moves.filter_maps_backward(moves.filter_maps(lines, weight), lines, weight)
    if backend == "cpu":
        dense = [x.new_ones(shape, dtype=small) for shape in ((2, c), (2,), (c, 2), (c,))]
        convolution = [weight, x.new_ones(2, dtype=small)]
        moves.glance(x, None, None, dense, [0, 2, 0], convolution, [0, 2, 0, 0], [1.0, 1.0], None, False)
