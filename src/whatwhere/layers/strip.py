"""Strip pooling."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .attention import GatedAttention, Gates
from .checks import check_count, check_flag
from .gate import apply_gate, check_gate
from .key_map import KeyMap
from .norm import BatchNorm2d
from .registry import register


@register(
    "strip",
    title="strip pooling",
    paper="Strip Pooling, CVPR 2020, arXiv 2003.13328",
    code="https://github.com/houqb/SPNet",
    formula="σ(W ReLU(BN(conv₃ₓ₁(avg over W)) + BN(conv₁ₓ₃(avg over H))))",
    kind="full",
    # Without a unit: no published network with it is known.
    key_maps=(
        KeyMap(
            "the official strip pooling code",
            {name: name for name in ("conv1", "bn1", "conv2", "bn2", "conv3")},
            options={"gate": "sigmoid"},
        ),
    ),
)
class StripPooling(GatedAttention):
    r"""Strip pooling: a gate for every element from the averages of its row and of its column, in all channels.

    .. math::
        u &= BN\big(f^{3 \times 1}(avg_W(x))\big) + BN\big(f^{1 \times 3}(avg_H(x))\big) \\
        y &= x \cdot \sigma\big(f^{1 \times 1}(ReLU(u)) + b\big)

    where :math:`avg_W(x)` has one average for each row and :math:`avg_H(x)` one for each column; their sum has the size
    of the map. All convolutions are dense, C → C: 7·C² weights, the most of all gates here.

    Args:
        channels: C of the maps.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gate is 2·σ(z), and the last convolution and its bias start at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``.

    Paper:
        Strip Pooling (arXiv 2003.13328), the strip pooling module; official code: houqb/SPNet, ``models/resnet.py``,
        ``SPBlock``: a bias in the last convolution only. In the authors' ResNet it stands after the ReLU of the 3×3
        convolution, in all blocks of the last stage and in the last block of the others. Gates are near 1/2 at the
        start, so y is near x/2.

    Deviations: the official block returns the gate and leaves the product to the caller. A training batch with one
        value a channel takes the running statistics, where PyTorch's BatchNorm raises.

    Copies: ``StripPooling`` in the official ``models/customize.py`` is the segmentation head's module, which adds to
        the map: another formula. timm's ``strip`` is a depthwise gate without normalisation: another one too.

    Raises:
        WhatwhereError: an unknown gate, ``channels`` below 1, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.StripPooling(64).gates(torch.rand(2, 64, 7, 5)).full.shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(
        self, channels: int, *, gate: str = "sigmoid", identity: bool = False, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        factory = {"device": device, "dtype": dtype}
        self.conv1 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0), bias=False, **factory)
        self.bn1 = BatchNorm2d(channels, **factory)
        self.conv2 = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1), bias=False, **factory)
        self.bn2 = BatchNorm2d(channels, **factory)
        self.conv3 = nn.Conv2d(channels, channels, 1, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for layer in (self.conv1, self.bn1, self.conv2, self.bn2, self.conv3):
            layer.reset_parameters()
        if self.identity:
            for parameter in self.conv3.parameters():
                nn.init.zeros_(parameter)

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``."""
        rows = self.bn1(self.conv1(x.mean(3, keepdim=True)))
        columns = self.bn2(self.conv2(x.mean(2, keepdim=True)))
        return Gates(full=apply_gate(self.conv3(F.relu(rows + columns)), self.gate, self.identity))

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, gate={self.gate!r}, identity={self.identity}"
