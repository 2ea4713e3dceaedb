"""Ghost modules: feature maps from a convolution, and more of them from cheap depthwise operations on these."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError
from .checks import check_count, check_odd
from .dfc import dfc_gates, dfc_layers


class GhostModule(nn.Module):
    r"""A convolution that computes only every ``ratio``-th map, and cheap operations that make the others from these.

    With n output maps, the primary convolution makes :math:`m = \lceil n / ratio \rceil` intrinsic maps; each of
    them goes through ``ratio - 1`` depthwise convolutions of its own:

    .. math:: y = \big[a(BN(f(x))),\; a(BN(g(a(BN(f(x))))))\big]_{1..n}

    Args:
        inputs: channels that come in.
        outputs: n, channels that go out.
        kernel_size: of the primary convolution, odd.
        ratio: how many maps there are for each intrinsic one.
        cheap_kernel_size: of the depthwise convolutions, odd.
        stride: of the primary convolution.
        relu: whether a is ReLU, or nothing.

    Shapes:
        ``(N, inputs, H, W)`` → ``(N, outputs, H / stride, W / stride)``.

    Paper:
        GhostNet, CVPR 2020, arXiv 1911.11907; official code: huawei-noah/Efficient-AI-Backbones,
        ``ghostnet_pytorch/ghostnet.py``. Same parameters under the same names.

    Deviations: none.

    Raises:
        WhatwhereError: a number below 1, an even kernel, a ratio larger than ``outputs``.

    Example:
        >>> module = GhostModule(16, 31)
        >>> module(torch.randn(2, 16, 8, 8)).shape
        torch.Size([2, 31, 8, 8])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int = 1,
        ratio: int = 2,
        cheap_kernel_size: int = 3,
        stride: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("inputs", inputs), ("outputs", outputs), ("ratio", ratio), ("stride", stride)):
            check_count(name, value)
        for name, value in (("kernel_size", kernel_size), ("cheap_kernel_size", cheap_kernel_size)):
            check_odd(name, value)
        if ratio > outputs:
            raise WhatwhereError(
                f"ratio={ratio} is more than the {outputs} output maps: take a ratio of at most {outputs}"
            )
        self.outputs = outputs
        self.ratio = ratio
        intrinsic = math.ceil(outputs / ratio)
        cheap = intrinsic * (ratio - 1)
        self.primary_conv = _conv_norm(inputs, intrinsic, kernel_size, stride, relu=relu)
        self.cheap_operation = (
            _conv_norm(intrinsic, cheap, cheap_kernel_size, groups=intrinsic, relu=relu) if cheap else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return intrinsic maps and cheap maps, ``(N, outputs, H, W)``."""
        intrinsic: Tensor = self.primary_conv(x)
        if self.cheap_operation is None:
            return intrinsic
        maps = torch.cat([intrinsic, self.cheap_operation(intrinsic)], 1)
        return maps if maps.shape[1] == self.outputs else maps[:, : self.outputs]


class DFCGhostModule(GhostModule):
    r"""A ghost module of GhostNetV2 whose maps are gated by decoupled fully connected (DFC) attention on its input.

    .. math:: y \cdot up(\sigma(BN(f_{5 \times 1}(BN(f_{1 \times 5}(BN(f(pool_2(x)))))))))

    where pool₂ averages 2 × 2 positions, f is a convolution like the primary one, the two long ones are depthwise,
    and up repeats the nearest gate. The gate comes from the module's *input* and multiplies its *output*, so this is
    no attention on one map; :class:`whatwhere.DFC` is.

    Paper:
        GhostNetV2, NeurIPS 2022, arXiv 2211.12905; official code: huawei-noah/Efficient-AI-Backbones,
        ``ghostnetv2_pytorch/model/ghostnetv2_torch.py``, mode ``attn``.

    Deviations: a side of 1 is not averaged, where the official code raises. In the attention a training batch with one
    value a channel takes the running statistics, where PyTorch's BatchNorm raises.

    Example:
        >>> DFCGhostModule(16, 32)(torch.randn(2, 16, 8, 8)).shape
        torch.Size([2, 32, 8, 8])
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 1, stride: int = 1, **options: Any) -> None:
        super().__init__(inputs, outputs, kernel_size, stride=stride, **options)
        self.short_conv = dfc_layers(inputs, outputs, kernel_size, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated maps, ``(N, outputs, H, W)``."""
        maps = super().forward(x)
        return maps * dfc_gates(self.short_conv, x, maps.shape[-2:])


def _conv_norm(
    inputs: int, outputs: int, kernel_size: int, stride: int = 1, groups: int = 1, *, relu: bool
) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True) if relu else nn.Sequential())
