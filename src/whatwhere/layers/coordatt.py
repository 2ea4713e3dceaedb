"""Coordinate attention."""

from typing import Any

import torch
from torch import Tensor, nn

from .attention import GatedAttention, Gates
from .checks import check_count, check_flag
from .gate import apply_gate, check_gate, hard_sigmoid
from .key_map import KeyMap, Shapes
from .norm import BatchNorm2d
from .registry import register

_PARTS = {name: name for name in ("conv1", "bn1", "conv_h", "conv_w")}


@register(
    "coordatt",
    title="coordinate attention",
    paper="Coordinate Attention, CVPR 2021, arXiv 2103.02907",
    code="https://github.com/houqb/CoordAttention",
    formula="σ(W_h u_h) · σ(W_w u_w), [u_h; u_w] = hswish(BN(W₁ [avg over W; avg over H]))",
    kind="line",
    key_maps=(
        KeyMap("the official coordinate attention code", _PARTS, options={"gate": "sigmoid", "bias": True}),
        KeyMap(
            "the official MobileNetV2 with coordinate attention",
            {"conv1": "conv1", "bn1": "bn1", "conv2": "conv_h", "conv3": "conv_w"},
            unit=r"(?P<block>(?:.+\.)?features\.\d+)\.conv\.6",
            where="itself",
            options={"gate": "sigmoid", "bias": True},
        ),
        KeyMap("timm's coordinate attention", _PARTS, options={"gate": "sigmoid", "bias": False}),
    ),
)
class CoordinateAttention(GatedAttention):
    r"""Coordinate attention: one gate for each row and one for each column of every channel, from averages along lines.

    .. math::
        [u_h; u_w] &= hswish\big(BN(W_1 [avg_W(x); avg_H(x)] + b_1)\big) \\
        y &= x \cdot \sigma(W_h u_h + b_h) \cdot \sigma(W_w u_w + b_w)

    where :math:`avg_W(x)` has one average for each row, ``(N, C, H, 1)``, :math:`avg_H(x)` one for each column, and the
    semicolon joins them to one sequence of H + W positions, over all of which the normalisation takes its statistics.
    hswish(t) is t · ReLU6(t + 3)/6.

    Args:
        channels: C of the maps.
        reduction: r; the hidden width is max(8, C // r).
        hidden: the hidden width itself, in place of max(8, C // r).
        bias: whether the three convolutions have biases.
        gate: ``sigmoid`` or ``hard_sigmoid``, of both gates.
        identity: start with every gate exactly 1: both gates are 2·σ(z), and W_h, b_h, W_w and b_w start at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``, the product of rows and columns.

    Paper:
        Coordinate Attention (arXiv 2103.02907); official code: houqb/CoordAttention, ``coordatt.py``: biases and
        PyTorch's initial values. Both gates are near 1/2 at the start, so y is near x/4. The authors' MobileNetV2
        (``mbv2_ca.py``) has it after the depthwise convolution, normalisation and ReLU6, before the projection, in all
        blocks but the first, and draws its convolutions as all others of the network, N(0, 2/fan-out), biases at 0.

    Deviations: the official constructor takes the width of the gates as a second argument, which must be C. An empty
        training batch leaves the running statistics as they are, where PyTorch's BatchNorm makes them NaN.

    Copies: timm's ``coord`` has no biases and takes the hidden width from C/16 · 2/3, rounded to a multiple of 8:
        ``bias=False`` and ``hidden`` here.

    Raises:
        WhatwhereError: an unknown gate, a number below 1, ``bias`` or ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> attention = ww.CoordinateAttention(64)
        >>> attention.conv1.out_channels
        8
        >>> attention.gates(torch.rand(2, 64, 7, 5)).full.shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 32,
        hidden: int | None = None,
        bias: bool = True,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        check_flag("bias", bias)
        width = max(8, channels // check_count("reduction", reduction))
        if hidden is not None:
            width = check_count("hidden", hidden)
        factory = {"bias": bias, "device": device, "dtype": dtype}
        self.conv1 = nn.Conv2d(channels, width, 1, **factory)
        self.bn1 = BatchNorm2d(width, device=device, dtype=dtype)
        self.conv_h = nn.Conv2d(width, channels, 1, **factory)
        self.conv_w = nn.Conv2d(width, channels, 1, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for layer in (self.conv1, self.bn1, self.conv_h, self.conv_w):
            layer.reset_parameters()
        if self.identity:
            for conv in (self.conv_h, self.conv_w):
                for parameter in conv.parameters():
                    nn.init.zeros_(parameter)

    @property
    def neutral(self) -> float:
        """The gate where both z are 0: the product of two."""
        return 1.0 if self.identity else 0.25

    def settings(self) -> dict[str, Any]:
        """Return the value of every option, the hidden width itself in place of ``reduction``."""
        found = {**super().settings(), "hidden": self.conv1.out_channels}
        del found["reduction"]
        return found

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``hidden`` where it is not the width by default, and ``bias``."""
        weight = shapes.get("conv1.weight", ())
        if len(weight) != 4:
            return {}
        hidden, channels = weight[:2]
        return {
            **({} if hidden == max(8, channels // 32) else {"hidden": hidden}),
            "bias": "conv1.bias" in shapes,
        }

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``: rows times columns."""
        lines = torch.cat((x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)), 2)
        u = self.bn1(self.conv1(lines))
        u, height = u * hard_sigmoid(u), x.shape[2]
        z_h, z_w = self.conv_h(u[:, :, :height]), self.conv_w(u[:, :, height:].transpose(2, 3))
        rows, columns = (apply_gate(z, self.gate, self.identity) for z in (z_h, z_w))
        return Gates(full=rows * columns)

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, gate={self.gate!r}, identity={self.identity}"
