"""GhostNet: feature maps from a convolution, and more of them from cheap depthwise operations on these."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WhatwhereError
from ..layers import create

# A row a bottleneck: depthwise kernel, expanded width, output width, whether it has SE, stride. A list a stage.
Row = tuple[int, int, int, bool, int]
STAGES: tuple[tuple[Row, ...], ...] = (
    ((3, 16, 16, False, 1),),
    ((3, 48, 24, False, 2),),
    ((3, 72, 24, False, 1),),
    ((5, 72, 40, True, 2),),
    ((5, 120, 40, True, 1),),
    ((3, 240, 80, False, 2),),
    (
        (3, 200, 80, False, 1),
        (3, 184, 80, False, 1),
        (3, 184, 80, False, 1),
        (3, 480, 112, True, 1),
        (3, 672, 112, True, 1),
    ),
    ((5, 672, 160, True, 2),),
    ((5, 960, 160, False, 1), (5, 960, 160, True, 1), (5, 960, 160, False, 1), (5, 960, 160, True, 1)),
)


def round_width(width: float, divisor: int = 4) -> int:
    """Round a width to a multiple of ``divisor``, at least one of them, and never down by more than 10 %.

    Example:
        >>> round_width(16 * 1.3), round_width(0.5), round_width(72 / 4)
        (20, 4, 20)
    """
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded


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
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise WhatwhereError(f"{name} must be a whole number of at least 1, got {value!r}")
        for name, value in (("kernel_size", kernel_size), ("cheap_kernel_size", cheap_kernel_size)):
            if not isinstance(value, int) or value < 1 or value % 2 == 0:
                raise WhatwhereError(
                    f"{name} must be odd and at least 1, so that the map keeps its size, got {value!r}"
                )
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
    no attention on one map.

    Paper:
        GhostNetV2, NeurIPS 2022, arXiv 2211.12905; official code: huawei-noah/Efficient-AI-Backbones,
        ``ghostnetv2_pytorch/model/ghostnetv2_torch.py``, mode ``attn``.

    Deviations: none. A map of one row or column raises, as 2 × 2 pooling leaves nothing of it.

    Example:
        >>> DFCGhostModule(16, 32)(torch.randn(2, 16, 8, 8)).shape
        torch.Size([2, 32, 8, 8])
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 1, stride: int = 1, **options: Any) -> None:
        super().__init__(inputs, outputs, kernel_size, stride=stride, **options)
        self.short_conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.Conv2d(outputs, outputs, (1, 5), padding=(0, 2), groups=outputs, bias=False),
            nn.BatchNorm2d(outputs),
            nn.Conv2d(outputs, outputs, (5, 1), padding=(2, 0), groups=outputs, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated maps, ``(N, outputs, H, W)``."""
        maps = super().forward(x)
        gates = torch.sigmoid(self.short_conv(F.avg_pool2d(x, 2)))
        return maps * F.interpolate(gates, size=maps.shape[-2:], mode="nearest")


class GhostBottleneck(nn.Module):
    """GhostNet's block: ghost module, [strided depthwise convolution], [SE], ghost module without ReLU, and the add.

    Args:
        inputs: channels that come in.
        hidden: channels in between.
        outputs: channels that go out.
        kernel_size: of the depthwise convolutions.
        stride: 1 or 2.
        se: whether squeeze-and-excitation stands in front of the projection (whatwhere's SE with a hard sigmoid; a
            quarter of ``hidden`` wide).
        dfc: whether the first ghost module has DFC attention (GhostNetV2).

    Example:
        >>> GhostBottleneck(16, 48, 24, stride=2, se=True)(torch.randn(2, 16, 8, 8)).shape
        torch.Size([2, 24, 4, 4])
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        kernel_size: int = 3,
        stride: int = 1,
        se: bool = False,
        dfc: bool = False,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.ghost1 = (DFCGhostModule if dfc else GhostModule)(inputs, hidden)
        if stride > 1:
            padding = (kernel_size - 1) // 2
            self.conv_dw = nn.Conv2d(hidden, hidden, kernel_size, stride, padding, groups=hidden, bias=False)
            self.bn_dw = nn.BatchNorm2d(hidden)
        self.se = create("se", hidden, hidden=round_width(hidden / 4), gate="hard_sigmoid") if se else None
        self.ghost2 = GhostModule(hidden, outputs, relu=False)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, inputs, kernel_size, stride, (kernel_size - 1) // 2, groups=inputs, bias=False),
                nn.BatchNorm2d(inputs),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, H / stride, W / stride)``."""
        y = self.ghost1(x)
        if self.stride > 1:
            y = self.bn_dw(self.conv_dw(y))
        if self.se is not None:
            y = self.se(y)
        out: Tensor = self.ghost2(y) + self.shortcut(x)
        return out


class GhostNet(nn.Module):
    """GhostNet or GhostNetV2 at any width, with the official layout and parameter names.

    Args:
        classes: how many classes.
        width: factor on all widths; the published ones are 0.5, 1.0 and 1.3.
        dropout: share dropped before the classifier.
        version: 1, or 2 with DFC attention in all bottlenecks but the first two.
        stages: rows of bottlenecks, by stage; by default the paper's.

    Shapes:
        images ``(N, 3, H, W)`` → class scores ``(N, classes)``.

    Paper:
        arXiv 1911.11907 and 2211.12905; official code: huawei-noah/Efficient-AI-Backbones. Official state dicts, and
        those of timm's ``ghostnet_050``, ``_100``, ``_130`` and ``ghostnetv2_*``, load with :func:`whatwhere.load`:
        the SE inside is whatwhere's, whose keys are translated.

    Deviations: none but rounding. PyTorch's hard sigmoid rounds 1/6 to float32 in its gradient, so in float64 the
    gradients of the SE differ by 3e-8 from the official code, which computes ReLU6(z + 3) / 6.

    Example:
        >>> network = GhostNet(classes=10, width=0.5)
        >>> network(torch.randn(2, 3, 64, 64)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        classes: int = 1000,
        width: float = 1.0,
        dropout: float = 0.2,
        version: int = 1,
        stages: Sequence[Sequence[Row]] = STAGES,
    ) -> None:
        super().__init__()
        if version not in (1, 2):
            raise WhatwhereError(f"version={version!r}: GhostNet has the versions 1 and 2")
        if classes < 1 or width <= 0:
            raise WhatwhereError(f"classes={classes} and width={width}: both must be above 0")
        self.version = version
        self.width = width
        channels = round_width(16 * width)
        self.conv_stem = nn.Conv2d(3, channels, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = nn.ReLU(inplace=True)
        made: list[nn.Module] = []
        number = hidden = 0
        for stage in stages:
            blocks = []
            for kernel_size, expanded, outputs, se, stride in stage:
                hidden, wide = round_width(expanded * width), round_width(outputs * width)
                dfc = version == 2 and number > 1
                blocks.append(GhostBottleneck(channels, hidden, wide, kernel_size, stride, se, dfc))
                channels, number = wide, number + 1
            made.append(nn.Sequential(*blocks))
        last = nn.Sequential()
        last.add_module("conv", nn.Conv2d(channels, hidden, 1, bias=False))
        last.add_module("bn1", nn.BatchNorm2d(hidden))
        last.add_module("act1", nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(*made, nn.Sequential(last))
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_head = nn.Conv2d(hidden, 1280, 1)
        self.act2 = nn.ReLU(inplace=True)
        self.dropout = dropout
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, 3, H, W)`` to class scores ``(N, classes)``."""
        x = self.blocks(self.act1(self.bn1(self.conv_stem(x))))
        x = self.act2(self.conv_head(self.global_pool(x))).flatten(1)
        scores: Tensor = self.classifier(F.dropout(x, self.dropout, self.training))
        return scores


def _conv_norm(
    inputs: int, outputs: int, kernel_size: int, stride: int = 1, groups: int = 1, *, relu: bool
) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True) if relu else nn.Sequential())
