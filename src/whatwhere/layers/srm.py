"""SRM, the style-based recalibration module."""

from typing import Any

import torch
from torch import Tensor, nn

from .attention import GatedAttention, Gates
from .checks import check_count, check_flag
from .gate import apply_gate, check_gate
from .key_map import KeyMap
from .moments import mean_and_variance, wide
from .norm import BatchNorm2d
from .registry import register


@register(
    "srm",
    title="style-based recalibration: gates from each channel's mean and standard deviation",
    paper="SRM, ICCV 2019, arXiv 1903.10829",
    code="https://github.com/hyunjaelee410/style-based-recalibration-module",
    formula="σ(BN(w₁·avg(x) + w₂·std(x))), w₁ and w₂ for each channel",
    kind="channel",
    key_maps=(KeyMap("the official SRM code", {"cfc": "cfc", "bn": "bn"}, options={"gate": "sigmoid"}),),
)
class SRM(GatedAttention):
    r"""Style-based recalibration ("what"): a gate from the mean and the standard deviation of the same channel alone.

    .. math::
        z_c = w_{c1} \cdot avg(x_c) + w_{c2} \cdot \sqrt{var(x_c) + 10^{-5}}, \qquad y = x \cdot \sigma(BN(z))

    with averages and variances over positions, and a batch normalisation that has one value an image and channel.

    Args:
        channels: C of the maps.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gate is 2·σ(BN(z)). w starts at 0 in both forms.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: channel ``(N, C, 1, 1)``.

    Paper:
        SRM (arXiv 1903.10829); official code: hyunjaelee410/style-based-recalibration-module,
        ``models/recalibration_modules.py``, after the last normalisation of a block. The variance divides by HW − 1.
        w starts at 0, so the output is exactly x/2. The official training has no weight decay on any of the parameters.

    Deviations from the official code: on a map of one position the variance is 0, where the official code gives NaN. A
    training batch of one image takes the running statistics, where PyTorch's BatchNorm raises. float16 and bfloat16
    maps have their means and variances computed in float32.

    The batch statistics in training are those of N values a channel: of two images the normalised values are near ±1
    whatever they are, and in small batches they are noisy.

    Raises:
        WhatwhereError: ``channels`` below 1, an unknown gate, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> attention = ww.SRM(64)
        >>> attention.cfc.shape, attention.gates(torch.randn(2, 64, 7, 7)).channel.unique().tolist()
        (torch.Size([64, 2]), [0.5])
    """

    def __init__(
        self, channels: int, *, gate: str = "sigmoid", identity: bool = False, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        self.cfc = nn.Parameter(torch.empty(channels, 2, device=device, dtype=dtype))
        self.bn = BatchNorm2d(channels, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the parameters to their start; nothing about it is random."""
        nn.init.zeros_(self.cfc)
        self.bn.reset_parameters()

    def gates(self, x: Tensor) -> Gates:
        """Return the channel gate, ``(N, C, 1, 1)``."""
        mean, variance = mean_and_variance(wide(x))
        first, second = self.cfc.t()[..., None, None]
        z = first * mean + second * (variance + 1e-5).sqrt()
        return Gates(channel=apply_gate(self.bn(z.to(self.cfc.dtype)), self.gate, self.identity))

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, gate={self.gate!r}, identity={self.identity}"
