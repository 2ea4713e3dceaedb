"""ECA, efficient channel attention."""

import math
from typing import Any

from torch import Tensor, nn

from .. import ops
from .attention import GatedAttention
from .checks import check_count, check_flag, check_odd
from .gate import apply_gate, check_gate
from .key_map import KeyMap, Shapes
from .registry import register


@register(
    "eca",
    title="efficient channel attention",
    paper="ECA-Net, CVPR 2020, arXiv 1910.03151",
    code="https://github.com/BangguWu/ECANet",
    formula="c = σ(conv1dₖ(avg(x)))",
    kind="channel",
    key_maps=(
        KeyMap("the official ECA code", {"conv": "conv"}, r"(?P<block>.+)\.eca", options={"gate": "sigmoid"}),
        KeyMap("timm's ECA", {"conv": "conv"}, r"(?P<block>.+)\.se", options={"gate": "sigmoid"}),
    ),
)
class ECA(GatedAttention):
    r"""Efficient channel attention ("what"): a gate from the averages of k neighbouring channels.

    .. math::
        c = \sigma\big(conv1d_k(avg(x))\big), \qquad k = \Big|\frac{\log_2 C + 1}{2}\Big|_{odd},
        \qquad y = x \cdot c

    where :math:`|t|_{odd}` is the whole part of t, and one more if that is even.

    Args:
        channels: C of the maps.
        kernel_size: k, odd; None takes it from C as above (3 for 64, 5 for 128 to 1024, 7 for 2048).
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gate is 2·σ(z) and the convolution starts at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: channel ``(N, C, 1, 1)``.

    Paper:
        ECA-Net (arXiv 1910.03151), with γ = 2 and b = 1; official code: BangguWu/ECANet, ``models/eca_module.py``, a
        convolution without bias over the channels, padded with zeros.

    Deviations from the official code: it takes k = 3 unless told otherwise, and its networks give k by stage; here k
    follows the paper.

    Raises:
        WhatwhereError: an even kernel, an unknown gate, ``channels`` below 1, ``identity`` that is neither True nor
            False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.ECA(256).conv.kernel_size
        (5,)
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int | None = None,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        if kernel_size is None:
            whole = int((math.log2(channels) + 1) / 2)
            kernel_size = whole + 1 - whole % 2
        check_odd("kernel_size", kernel_size)
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.conv.reset_parameters()
        if self.identity:
            nn.init.zeros_(self.conv.weight)

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``kernel_size``."""
        kernel = shapes.get("conv.weight", ())
        return {"kernel_size": kernel[-1]} if len(kernel) == 3 else {}

    def excite(self, squeezed: Tensor) -> Tensor:
        """Return the channel gate: averages ``(N, 1, C)`` → ``(N, C, 1, 1)``."""
        z: Tensor = self.conv(squeezed)
        return apply_gate(z[:, 0, :, None, None], self.gate, self.identity)

    def steps(self) -> tuple[ops.Step, ...]:
        """Return the one step: squeeze over space, excite."""
        return (ops.Step("channel", ("avg",), self.excite),)

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, gate={self.gate!r}, identity={self.identity}"
