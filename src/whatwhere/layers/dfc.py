"""DFC, the decoupled fully connected attention of GhostNetV2."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .attention import GatedAttention, Gates
from .checks import check_count, check_flag
from .gate import apply_gate, check_gate
from .key_map import KeyMap
from .norm import BatchNorm2d
from .registry import register


def dfc_layers(inputs: int, outputs: int, kernel_size: int = 1, stride: int = 1, **factory: Any) -> nn.Sequential:
    """Return what :func:`dfc_gates` runs: a convolution and two long depthwise ones, each with its normalisation.

    Args:
        inputs: channels of the map that the gates come from.
        outputs: channels of the gates.
        kernel_size: of the first convolution, odd.
        stride: of the first convolution.
        factory: ``device`` and ``dtype`` of the parameters.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, bias=False, **factory),
        BatchNorm2d(outputs, **factory),
        nn.Conv2d(outputs, outputs, (1, 5), padding=(0, 2), groups=outputs, bias=False, **factory),
        BatchNorm2d(outputs, **factory),
        nn.Conv2d(outputs, outputs, (5, 1), padding=(2, 0), groups=outputs, bias=False, **factory),
        BatchNorm2d(outputs, **factory),
    )


def dfc_gates(
    layers: nn.Module, x: Tensor, size: Sequence[int], gate: str = "sigmoid", identity: bool = False
) -> Tensor:
    """Return gates ``(N, outputs, *size)`` from ``x``: averages of 2 × 2 positions, the layers, the nearest gate.

    A side of 1 is not averaged.
    """
    height, width = x.shape[-2:]
    z = layers(F.avg_pool2d(x, (2 if height > 1 else 1, 2 if width > 1 else 1)))
    return F.interpolate(apply_gate(z, gate, identity), size=tuple(size), mode="nearest")


@register(
    "dfc",
    title="decoupled fully connected attention of GhostNetV2",
    paper="GhostNetV2, NeurIPS 2022, arXiv 2211.12905",
    code="https://github.com/huawei-noah/Efficient-AI-Backbones",
    formula="up(σ(BN(f₅ₓ₁(BN(f₁ₓ₅(BN(f₁ₓ₁(avg₂ₓ₂(x)))))))))",
    kind="both",
    # Without a unit: in the official networks these layers are part of a ghost module, which is no attention.
    key_maps=(
        KeyMap(
            "the official GhostNetV2 code",
            {f"short_conv.{i}": f"short_conv.{i}" for i in range(6)},
            options={"gate": "sigmoid"},
        ),
    ),
)
class DFC(GatedAttention):
    r"""Decoupled fully connected attention: each gate sees positions in its row and its column, at half resolution.

    .. math::
        z &= BN\big(f^{5 \times 1}_{dw}\big(BN\big(f^{1 \times 5}_{dw}\big(
            BN\big(f^{1 \times 1}(avg_{2 \times 2}(x))\big)\big)\big)\big)\big) \\
        y &= x \cdot up(\sigma(z))

    where dw says depthwise, and up repeats the nearest gate until there is one for each position.

    Args:
        channels: C of the maps.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gate is 2·σ(z) and the last normalisation's weight starts at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``, constant in blocks of about 2 × 2.
        ``torch.export`` with dynamic sides needs them to be 4 or more: it takes a side of 1 for a constant.

    Paper:
        GhostNetV2 (arXiv 2211.12905); official code: huawei-noah/Efficient-AI-Backbones,
        ``ghostnetv2_pytorch/model/ghostnetv2_torch.py``, the layers ``short_conv``: no biases, PyTorch's initial
        values.

    Deviations: the official code takes the gates from the input of a ghost module and multiplies its output by them
    (``whatwhere.layers.ghost.DFCGhostModule`` does); here both are one map. A side of 1 is not averaged, where the
    official code raises. A training batch with one value a channel takes the running statistics, where PyTorch's
    BatchNorm raises.

    Raises:
        WhatwhereError: ``channels`` below 1, an unknown gate, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.DFC(64).gates(torch.rand(2, 64, 7, 7)).full.shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(
        self, channels: int, *, gate: str = "sigmoid", identity: bool = False, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        self.short_conv = dfc_layers(channels, channels, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for layer in self.short_conv:
            assert isinstance(layer, (nn.Conv2d, nn.BatchNorm2d))
            layer.reset_parameters()
        if self.identity:
            nn.init.zeros_(self.short_conv.get_parameter("5.weight"))

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``."""
        return Gates(full=dfc_gates(self.short_conv, x, x.shape[-2:], self.gate, self.identity))

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, gate={self.gate!r}, identity={self.identity}"
