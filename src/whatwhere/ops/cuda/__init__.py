"""The moves of a backend on a GPU: kernels in Triton, and for the filter PyTorch's convolution.

To import this imports Triton, so it is imported when a map on a GPU is at hand.

Notation: w = x - shift per channel, v = w · scale + bias per image and channel, u = v · spatial per place. What is None
is left out.

- Maps are ``(N, C, H, W)``, float16, bfloat16, float32 or float64, contiguous or channels_last; what comes out has the
  same dtype and memory format. Small tensors and all arithmetic are float32, for a float64 map float64. Places and
  channels are given as numbers of that dtype (exact below 2²⁴ in float32).
- A move reads and writes every number of its maps once. One image is split among enough programs to fill a GPU.
- Results of the kernels are the same bit for bit on every call: no atomics; what several programs contribute to has a
  slot for each of them, and the slots are joined in a fixed order. How work is split depends on shapes alone, not on
  the GPU.
- NaN and infinities come through: the greatest of numbers with a NaN is NaN, its place that of the first NaN; relu
  keeps NaN.
- Programs run image by image, so the small tensors of an image and the partial results of a tile are read again while
  they are still in the L2 cache. The batch is not cut: a map that the next move reads again comes from memory unless
  the whole batch fits into the L2 cache.
"""

from .filters import filter_maps, filter_maps_backward
from .maps import apply_gates, gather
from .squeeze import squeeze_channels, squeeze_space
from .sums import apply_gates_backward, squeeze_channels_backward

__all__ = [
    "apply_gates", "apply_gates_backward", "filter_maps", "filter_maps_backward", "gather",
    "squeeze_channels", "squeeze_channels_backward", "squeeze_space",
]  # fmt: skip
