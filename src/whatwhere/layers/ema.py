"""EMA, efficient multi-scale attention."""

from typing import Any

import torch
from torch import Tensor, nn

from .attention import GatedAttention, Gates
from .checks import check_count, check_divisor, check_flag, largest_divisor
from .gate import apply_gate, check_gate
from .key_map import KeyMap
from .norm import GroupNorm
from .registry import register


@register(
    "ema",
    title="efficient multi-scale attention",
    paper="EMA, ICASSP 2023, arXiv 2305.13563",
    code="https://github.com/YOLOonMe/EMA-attention-module",
    formula="σ(softmax(avg p) · r + softmax(avg r) · p) by groups, p = IN(q σ_h σ_w), r = conv₃ₓ₃(q)",
    kind="full",
    # Without a unit: the names in the published networks are not known here.
    key_maps=(
        KeyMap(
            "the official EMA code",
            {name: name for name in ("gn", "conv1x1", "conv3x3")},
            options={"gate": "sigmoid"},
        ),
    ),
)
class EfficientMultiScaleAttention(GatedAttention):
    r"""Efficient multi-scale attention: in each group of channels one gate for each position, from two branches.

    With q the channels of one group, C/G of them:

    .. math::
        [u_h; u_w] &= W [avg_W(q); avg_H(q)] + b \\
        p &= IN\big(q \cdot \sigma(u_h) \cdot \sigma(u_w)\big), \qquad r = f^{3 \times 3}(q) \\
        z &= softmax(avg(p))^T r + softmax(avg(r))^T p, \qquad y = q \cdot \sigma(z)

    where :math:`avg_W` averages each row, :math:`avg_H` each column and :math:`avg` the whole map, the softmax is over
    the channels of the group, and IN normalises every channel of every image by itself. All groups share the weights.

    Args:
        channels: C of the maps.
        groups: G, a divisor of C; None is 32 or the largest divisor of C below that. With G = C each softmax is over
            one channel and so always 1.
        gate: ``sigmoid`` or ``hard_sigmoid``, the last gate; σ of the lines stays.
        identity: start with every gate exactly 1: the gate is 2·σ(z), and the 3×3 convolution, its bias and the weight
            of the normalisation start at 0, so that p = r = 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``, the same for all channels of a group.

    Paper:
        EMA (arXiv 2305.13563); official code: YOLOonMe/EMA-attention-module, the file ``EMA_attention_module``: biases,
        PyTorch's initial values. Gates are near 1/2 at the start, so y is near x/2.

    Deviations: the official code raises where C is less than G or no multiple of it (``factor``, 32); here another
        number of groups is taken. One image of 1×1 with G = 1 is normalised to the bias, as several are, where
        PyTorch's GroupNorm raises. The official second argument, ``c2``, which nothing reads, is not here.

    Copies: YOLO code has G = 8 or 32 as default: say which.

    Raises:
        WhatwhereError: groups that do not divide C, an unknown gate, a number below 1, ``identity`` that is neither
            True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> attention = ww.EfficientMultiScaleAttention(64, groups=8)
        >>> attention.gates(torch.rand(2, 64, 7, 5)).full.shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(
        self,
        channels: int,
        *,
        groups: int | None = None,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        self.groups = check_divisor("groups", largest_divisor(channels, 32) if groups is None else groups, channels)
        width = channels // self.groups
        factory = {"device": device, "dtype": dtype}
        self.gn = GroupNorm(width, width, **factory)
        self.conv1x1 = nn.Conv2d(width, width, 1, **factory)
        self.conv3x3 = nn.Conv2d(width, width, 3, padding=1, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for layer in (self.gn, self.conv1x1, self.conv3x3):
            layer.reset_parameters()
        if self.identity:
            for parameter in (self.gn.weight, *self.conv3x3.parameters()):
                nn.init.zeros_(parameter)

    def settings(self) -> dict[str, Any]:
        """Return the value of every option, the groups as a number."""
        return {**super().settings(), "groups": self.groups}

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``."""
        n, _, h, w = x.shape
        q = x.reshape(n * self.groups, self.channels // self.groups, h, w)
        lines = self.conv1x1(torch.cat((q.mean(3, keepdim=True), q.mean(2, keepdim=True).transpose(2, 3)), 2)).sigmoid()
        # Slices, no split: its gradient is wrong here when compiled by PyTorch 2.14 for a CPU.
        p, r = self.gn(q * lines[:, :, :h] * lines[:, :, h:].transpose(2, 3)), self.conv3x3(q)
        z = _weighted(r, p) + _weighted(p, r)
        gate = apply_gate(z, self.gate, self.identity).reshape(n, self.groups, 1, h, w)
        return Gates(full=gate.expand(-1, -1, self.channels // self.groups, -1, -1).reshape(n, self.channels, h, w))

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, groups={self.groups}, gate={self.gate!r}, identity={self.identity}"


def _weighted(u: Tensor, other: Tensor) -> Tensor:
    """Return the sum of the channels of ``u``, each with its softmax weight from the averages of the other map."""
    return (u * other.mean((2, 3), keepdim=True).softmax(1)).sum(1, keepdim=True)
