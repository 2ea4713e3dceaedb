"""LSK, large selective kernels as a gate."""

from typing import Any

import torch
from torch import Tensor, nn

from .. import ops
from .attention import GatedAttention, Gates
from .checks import check_count, check_flag, check_odd, hidden_width
from .gate import GATES, check_gate
from .key_map import KeyMap, Shapes
from .registry import register

_PARTS = {part: part for part in ("conv0", "conv_spatial", "conv1", "conv2", "conv_squeeze", "conv")}


@register(
    "lsk",
    title="large selective kernel attention of LSKNet",
    paper="LSKNet, ICCV 2023, arXiv 2303.09030",
    code="https://github.com/zcablii/LSKNet",
    formula="f₁ₓ₁(s₁ · f₁ₓ₁(a) + s₂ · f₁ₓ₁(b)), a = dw₅ₓ₅(x), b = dw₇ₓ₇, dilated(a), s = σ(f₇ₓ₇([avg; max]))",
    kind="full",
    bounded=False,
    key_maps=(KeyMap("the official LSKNet code", _PARTS, options={"gate": "sigmoid"}),),
)
class LSK(GatedAttention):
    r"""Large selective kernels: the gate is a mixture of two depthwise convolutions, another one at every position.

    .. math::
        a &= f^{5 \times 5}_{dw}(x), \qquad b = f^{7 \times 7}_{dw,\, dilation\, 3}(a) \\
        a' &= f^{1 \times 1}_1(a), \qquad b' = f^{1 \times 1}_2(b) \\
        s &= \sigma\big(f^{7 \times 7}([avg_c([a'; b']); max_c([a'; b'])])\big) \\
        z &= f^{1 \times 1}(s_1 \cdot a' + s_2 \cdot b') \\
        y &= x \cdot z

    Args:
        channels: C of the maps.
        reduction: r; a' and b' have max(1, C // r) channels.
        kernel_size: of the convolution that makes s, odd.
        gate: ``sigmoid`` or ``hard_sigmoid``, for s.
        identity: start with every gate exactly 1: the gate is 1 + z and the last convolution starts at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``, of any size and sign.

    Paper:
        LSKNet (arXiv 2303.09030); official code: zcablii/LSKNet, ``mmrotate/models/backbones/lsknet.py``, class
        ``LSKblock`` (the paper's LSK module), between the same layers as LKA in VAN. The average comes before the
        maximum, other than in CBAM; s is two sigmoids, no softmax; z has no sigmoid. All convolutions have biases,
        which start at 0; weights start normal with a variance of 2/(k²·outputs/groups).

    Deviations: a' and b' have at least one channel, where the official code cannot be built.

    Raises:
        WhatwhereError: an even kernel, an unknown gate, a number below 1, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.LSK(64).gates(torch.rand(2, 64, 7, 7)).full.shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 2,
        kernel_size: int = 7,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        width = hidden_width(channels, reduction)
        check_odd("kernel_size", kernel_size)
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        factory = {"device": device, "dtype": dtype}
        self.conv0 = nn.Conv2d(channels, channels, 5, padding=2, groups=channels, **factory)
        self.conv_spatial = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels, **factory)
        self.conv1 = nn.Conv2d(channels, width, 1, **factory)
        self.conv2 = nn.Conv2d(channels, width, 1, **factory)
        self.conv_squeeze = nn.Conv2d(2, 2, kernel_size, padding=kernel_size // 2, **factory)
        self.conv = nn.Conv2d(width, channels, 1, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for conv in self.children():
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            height, width = conv.kernel_size
            nn.init.normal_(conv.weight, std=(2 / (height * width * conv.out_channels // conv.groups)) ** 0.5)
            nn.init.zeros_(conv.bias)
        if self.identity:
            nn.init.zeros_(self.conv.weight)

    @property
    def neutral(self) -> float:
        """The gate where the convolutions give 0."""
        return 1.0 if self.identity else 0.0

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``reduction`` and ``kernel_size``."""
        first, squeeze = shapes.get("conv1.weight", ()), shapes.get("conv_squeeze.weight", ())
        if len(first) != 4 or len(squeeze) != 4 or not first[0]:
            return {}
        return {"reduction": max(1, first[1] // first[0]), "kernel_size": squeeze[-1]}

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``."""
        near = self.conv0(x)
        far = self.conv_spatial(near)
        near, far = self.conv1(near), self.conv2(far)
        squeezed = ops.squeeze_channels(torch.cat((near, far), 1), ("avg", "max"))
        s = GATES[self.gate](self.conv_squeeze(squeezed))
        z = self.conv(near * s[:, :1] + far * s[:, 1:])
        return Gates(full=1 + z if self.identity else z)

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, gate={self.gate!r}, identity={self.identity}"
