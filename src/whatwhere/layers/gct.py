"""GCT, the gated channel transformation."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from .. import ops
from ..errors import WhatwhereError
from .attention import GatedAttention, Gates
from .checks import check_choice, check_count, check_flag
from .key_map import KeyMap
from .moments import wide
from .registry import register

_NAMES = ("alpha", "gamma", "beta")


@register(
    "gct",
    title="gated channel transformation: channels compete or cooperate by their norms",
    paper="GCT, CVPR 2020, arXiv 1909.11519",
    code="https://github.com/z-x-yang/GCT",
    formula="1 + tanh(γ·e / rms(e) + β), e = α·√(Σ x²)",
    kind="channel",
    key_maps=(KeyMap("the official GCT code", {name: name for name in _NAMES}),),
)
class GCT(GatedAttention):
    r"""Gated channel transformation ("what"): a gate from each channel's norm, next to the norms of all channels.

    .. math::
        e_c = \alpha_c \sqrt{\textstyle\sum x_c^2 + \epsilon}, \qquad
        n = \frac{\gamma}{\sqrt{avg_C(e^2) + \epsilon}}, \qquad y = x \cdot (1 + \tanh(n \cdot e + \beta))

    with the sum over positions; α, β and γ are vectors of C. For ``mode="l1"`` it is
    :math:`e_c = \alpha_c \sum |x_c|` and :math:`n = \gamma / (avg_C(|e|) + \epsilon)`.

    Args:
        channels: C of the maps.
        mode: ``l2`` or ``l1``.
        after_relu: for maps without negative values: ``l1`` sums x in place of \|x\|.
        eps: ε.
        identity: start with every gate exactly 1, as it does in any case: γ and β start at 0, and the gate has the same
            form with and without.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: channel ``(N, C, 1, 1)``, between 0 and 2.

    Paper:
        GCT (arXiv 1909.11519); official code: z-x-yang/GCT, ``PyTorch/GCT.py``. It is meant for the input of every
        convolution, and α starts at 1, γ and β at 0: the output is x.

    Deviations from the official code: sums are taken in float32 for float16 and bfloat16 maps, where the official
    code's sum of squares can exceed what float16 holds. An unknown mode raises, where the official code means to end
    the process.

    "GCT" is also the name of another method, the Gaussian context transformer.

    Raises:
        WhatwhereError: ``channels`` below 1, an unknown mode, ``eps`` that is not a finite number above 0,
            ``after_relu`` or ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> x = torch.randn(2, 64, 7, 7)
        >>> torch.equal(ww.GCT(64)(x), x)
        True
    """

    def __init__(
        self,
        channels: int,
        *,
        mode: str = "l2",
        after_relu: bool = False,
        eps: float = 1e-5,
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.mode = check_choice("mode", mode, ("l1", "l2"))
        self.after_relu = check_flag("after_relu", after_relu)
        if isinstance(eps, bool) or not isinstance(eps, (int, float)) or not (math.isfinite(eps) and eps > 0):
            raise WhatwhereError(f"eps must be a finite number above 0, got {eps!r}")
        self.eps = eps
        self.identity = check_flag("identity", identity)
        for name in _NAMES:
            self.register_parameter(name, nn.Parameter(torch.empty(1, channels, 1, 1, device=device, dtype=dtype)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the parameters to their start; nothing about it is random."""
        for name in _NAMES:
            nn.init.constant_(self.get_parameter(name), 1.0 if name == "alpha" else 0.0)

    @property
    def neutral(self) -> float:
        """The gate where tanh is 0."""
        return 1.0

    def settings(self) -> dict[str, Any]:
        """Return the options that have an effect: not ``identity``, and ``after_relu`` in the l1 mode only."""
        idle = ("identity",) if self.mode == "l1" else ("identity", "after_relu")
        return {k: v for k, v in super().settings().items() if k not in idle}

    def excite(self, squeezed: Tensor) -> Tensor:
        """Return the channel gate: norms ``(N, 1, C)``, or sums in the l1 mode → ``(N, C, 1, 1)``."""
        norm = wide(squeezed)[:, 0, :, None, None]
        alpha, gamma, beta = map(self.get_parameter, _NAMES)
        if self.mode == "l2":
            e = alpha * (norm.square() + self.eps).sqrt()
            n = gamma / (e.square().mean(1, keepdim=True) + self.eps).sqrt()
        else:
            e = alpha * norm
            n = gamma / (e.abs().mean(1, keepdim=True) + self.eps)
        return 1 + torch.tanh(n * e + beta)

    def steps(self) -> tuple[ops.Step, ...]:
        """Return the one step of the l2 mode: squeeze over space, excite."""
        return (ops.Step("channel", ("lp",), self.excite),) if self.mode == "l2" else ()

    def gates(self, x: Tensor) -> Gates:
        """Return the channel gate, ``(N, C, 1, 1)``."""
        if self.mode == "l2":
            return super().gates(x)
        u = wide(x)
        return Gates(channel=self.excite((u if self.after_relu else u.abs()).sum((2, 3)).unsqueeze(1)))

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, mode={self.mode!r}, after_relu={self.after_relu}, identity={self.identity}"
