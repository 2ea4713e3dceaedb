"""SimAM, attention without parameters."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError
from .attention import GatedAttention, Gates
from .checks import check_count, check_flag
from .gate import apply_gate, check_gate
from .moments import degrees, wide
from .registry import register


@register(
    "simam",
    title="attention without parameters, from each value's distance to its channel's mean",
    paper="SimAM, ICML 2021",
    code="https://github.com/ZjjConan/SimAM",
    formula="σ((x − avg(x))² / (4(var(x) + λ)) + ½)",
    kind="full",
)
class SimAM(GatedAttention):
    r"""Attention without parameters: a value counts the more, the further it is from the mean of its channel.

    .. math::
        d = (x - avg(x))^2, \qquad v = \frac{\sum d}{HW - 1}, \qquad
        z = \frac{d}{4 (v + \lambda)} + \frac{1}{2}, \qquad y = x \cdot \sigma(z)

    with averages and sums over the positions of each channel. As z is never below ½, the gate of the official form is
    between 0.62 and 1.

    Args:
        channels: C of the maps; any number, nothing depends on it.
        regularisation: λ, above 0. The larger it is, the less values differ in their gates.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gate is 2·σ(γ·z), with a number γ that is learned and starts at
            0. It is the only parameter, and there is none without ``identity``.
        device: where the parameter is made.
        dtype: of the parameter.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``.

    Paper:
        SimAM (ICML 2021); official code: ZjjConan/SimAM, ``networks/attentions/simam_module.py``, which has λ = 1e-4
        and, for ImageNet, trains with λ = 0.1. There it stands behind the 3×3 convolution of a block and before that
        convolution's normalisation. At the start the output is about 0.65 x.

    Deviations from the official code: on a map of one position the variance is 0, so that the gate is σ(½), where the
    official code divides by 0 and gives NaN. float16 and bfloat16 maps have their gates computed in float32. The form
    with ``identity`` is not in the paper.

    Raises:
        WhatwhereError: ``channels`` below 1, λ that is not a finite number above 0, an unknown gate, ``identity`` that
            is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> gate = ww.SimAM(64).gates(torch.randn(2, 64, 7, 7)).full
        >>> gate.shape, bool(gate.min() > 0.62)
        (torch.Size([2, 64, 7, 7]), True)
    """

    def __init__(
        self,
        channels: int,
        *,
        regularisation: float = 1e-4,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        number = isinstance(regularisation, (int, float)) and not isinstance(regularisation, bool)
        if not (number and math.isfinite(regularisation) and regularisation > 0):
            raise WhatwhereError(f"regularisation must be a finite number above 0, got {regularisation!r}")
        self.regularisation = regularisation
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        self.gamma = nn.Parameter(torch.empty((), device=device, dtype=dtype)) if identity else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set γ to 0."""
        if self.gamma is not None:
            nn.init.zeros_(self.gamma)

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``."""
        u = wide(x)
        distance = (u - u.mean((2, 3), keepdim=True)).square()
        variance = distance.sum((2, 3), keepdim=True) / degrees(u)
        z = distance / (4 * (variance + self.regularisation)) + 0.5
        if self.gamma is not None:
            z = z * self.gamma
        return Gates(full=apply_gate(z, self.gate, self.identity).to(x.dtype))

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, regularisation={self.regularisation}, gate={self.gate!r}, identity={self.identity}"
