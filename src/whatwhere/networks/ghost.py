"""GhostNet: feature maps from a convolution, and more of them from cheap depthwise operations on these."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WhatwhereError
from ..layers import create
from ..layers.ghost import DFCGhostModule, GhostModule
from .intermediates import intermediates

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
        >>> import torch
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

    Deviations: none. In float64 outputs, running statistics and all gradients equal those of the official code but for
    the last digits (a relative 1e-12).

    Example:
        >>> import torch
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

    def forward_intermediates(
        self, x: Tensor, indices: Sequence[int] | None = None, *, intermediates_only: bool = True
    ) -> list[Tensor]:
        """Return the maps of the stages with these indices, by default of all: timm's interface."""
        x = self.act1(self.bn1(self.conv_stem(x)))
        return intermediates(x, self.blocks, indices, intermediates_only=intermediates_only)

    def prune_intermediate_layers(self, indices: Sequence[int], **_: bool) -> None:
        """Take out what comes after the last of these stages: timm's interface."""
        self.blocks = self.blocks[: max(indices) + 1]
        self.conv_head = self.classifier = nn.Identity()  # type: ignore[assignment]
