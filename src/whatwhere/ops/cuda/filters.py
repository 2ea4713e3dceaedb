"""The filter of spatial attention: PyTorch's own convolution, whose kernels and switches (TF32, deterministic
algorithms) it keeps.

What comes out is made contiguous: a single map counts as channels_last too, and the convolution may answer so.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def filter_maps(maps: Tensor, weight: Tensor) -> Tensor:
    """(N, O, H, W): the convolution of ``(N, P, H, W)`` with ``(O, P, k, k)``, k odd, that keeps the size."""
    return F.conv2d(maps.contiguous(), weight.contiguous(), padding=weight.shape[-1] // 2).contiguous()


def filter_maps_backward(g: Tensor, maps: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """From g, the gradient of what is filtered: the gradients of maps and weight."""
    pad = weight.shape[-1] // 2
    dmaps, dweight, _ = torch.ops.aten.convolution_backward(
        g.contiguous(), maps.contiguous(), weight.contiguous(), None, [1, 1], [pad, pad], [1, 1], False, [0, 0], 1,
        [True, True, False]
    )  # fmt: skip
    return dmaps.contiguous(), dweight.contiguous()
