"""NAM, normalisation-based attention."""

from typing import Any

import torch
from torch import Tensor, nn

from .attention import GatedAttention, Gates
from .checks import check_count, check_flag
from .gate import apply_gate, check_gate
from .key_map import KeyMap
from .norm import BatchNorm2d
from .registry import register


@register(
    "nam",
    title="normalisation-based attention module",
    paper="NAM, 2021, arXiv 2111.12419",
    code="https://github.com/Christian-lyc/NAM",
    formula="σ(|w|/Σ|w| · BN(x)), w the weight of BN",
    kind="full",
    key_maps=(KeyMap("the official NAM code", {"bn2": "bn2"}, options={"gate": "sigmoid", "detach": True}),),
)
class NAM(GatedAttention):
    r"""Gates from a batch normalisation, each channel weighed by its share in the sum of the normalisation's weights.

    .. math::
        g = \sigma\Big(\frac{|w|}{\sum_j |w_j|}\, BN_{w,b}(x)\Big), \qquad y = x \cdot g

    Args:
        channels: C of the maps.
        detach: whether the shares |w|/Σ|w| are constants for the gradient, as in the official code; False lets the
            gradient through them, as the paper's formula says.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gate is 2·σ(γ z), with a scalar γ that starts at 0 (with w itself
            at 0 there would be no shares).
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``.

    Paper:
        NAM (arXiv 2111.12419), the channel part; official code: Christian-lyc/NAM, ``MODELS/attention.py``,
        ``Channel_Att``: BatchNorm2d with weight 1 and bias 0 at the start. Every share is 1/C then, so the gate is
        ½ + BN(x)/4C, almost constant (0.496 to 0.504 at C = 256), and y is about ½ x.

    Deviations from the official code: where all w are 0, which is a division of 0 by 0 there, the shares are 0. A
        training batch with one value a channel takes the running statistics, where PyTorch's BatchNorm raises. The
        paper's spatial part, which weighs the positions of a map of fixed size, is in neither. The official training
        adds an L1 penalty on w to the loss, which is the trainer's affair.

    Raises:
        WhatwhereError: an unknown gate, ``channels`` below 1, ``detach`` or ``identity`` that is neither True nor
            False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.NAM(64).gates(torch.rand(2, 64, 7, 7)).full.shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        detach: bool = True,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.detach = check_flag("detach", detach)
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        self.bn2 = BatchNorm2d(channels, device=device, dtype=dtype)
        self.gamma = nn.Parameter(torch.zeros(1, device=device, dtype=dtype)) if identity else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the parameters anew."""
        self.bn2.reset_parameters()
        if self.gamma is not None:
            nn.init.zeros_(self.gamma)

    def shares(self) -> Tensor:
        """Return |w|/Σ|w|, ``(C,)``."""
        weight = (self.bn2.weight.detach() if self.detach else self.bn2.weight).abs()
        return weight / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``."""
        shares = self.shares() if self.gamma is None else self.shares() * self.gamma
        return Gates(full=apply_gate(self.bn2(x) * shares[:, None, None], self.gate, self.identity))

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, detach={self.detach}, gate={self.gate!r}, identity={self.identity}"
