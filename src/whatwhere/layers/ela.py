"""ELA, efficient local attention."""

from typing import Any

from torch import Tensor, nn

from .attention import GatedAttention, Gates
from .checks import check_count, check_divisor, check_flag, check_odd, largest_divisor
from .gate import apply_gate, check_gate
from .key_map import KeyMap, Shapes
from .norm import GroupNorm
from .registry import register


@register(
    "ela",
    title="efficient local attention",
    paper="ELA, 2024, arXiv 2403.01123",
    code="https://github.com/HZAI-ZJNU/SCSA",
    formula="f(avg over W) · f(avg over H), f = σ(GN(conv1dₖ))",
    kind="line",
    key_maps=(KeyMap("the ELA code in use", {"conv": "conv", "gn": "gn"}, options={"gate": "sigmoid"}),),
)
class ELA(GatedAttention):
    r"""Efficient local attention: one gate for each row and one for each column of every channel, by a 1-D convolution.

    .. math::
        f(t) = \sigma\big(GN(conv1d_k(t))\big), \qquad y = x \cdot f(avg_W(x)) \cdot f(avg_H(x))

    where :math:`avg_W(x)` has one average for each row and :math:`avg_H(x)` one for each column. Both go through the
    same convolution and the same normalisation, each with statistics of its own.

    Args:
        channels: C of the maps.
        kernel_size: k, odd.
        groups: of the convolution, a divisor of C; None is C, a depthwise convolution.
        norm_groups: of the normalisation, a divisor of C; None is 16 or the largest divisor of C below that.
        gate: ``sigmoid`` or ``hard_sigmoid``, of both gates.
        identity: start with every gate exactly 1: both gates are 2·σ(z), and the normalisation's weight starts at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    The four sizes that copies name:

    ======  ===============  ==============  ================
    size    ``kernel_size``  ``groups``      ``norm_groups``
    ======  ===============  ==============  ================
    ELA-T   5                C               32
    ELA-B   7                C               16 (the default)
    ELA-S   5                C // 8          16
    ELA-L   7                C // 8          16
    ======  ===============  ==============  ================

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``, the product of rows and columns.

    Paper:
        ELA (arXiv 2403.01123). The authors have published no code; what is equal to this is the copy that most people
        run, as in HZAI-ZJNU/SCSA, ``mmpretrain/models/attentions/ELA.py``: no bias in the convolution, PyTorch's
        initial values. Both gates are near 1/2 at the start, so y is near x/4.

    Deviations: the copy raises where C is not a multiple of 16; here another number of groups normalises. One
        image of 1×1 with a group for each channel is normalised to the bias, as several are, where PyTorch's GroupNorm
        raises.

    Copies: what timm calls ELA has a convolution and a normalisation of one group for each direction, and SiLU before
        σ, so that no gate is below 0.43.

    Raises:
        WhatwhereError: an even kernel, groups that do not divide C, an unknown gate, a number below 1, ``identity``
            that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> attention = ww.ELA(64, kernel_size=5, groups=8)  # ELA-S
        >>> attention.gates(torch.rand(2, 64, 7, 5)).full.shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 7,
        groups: int | None = None,
        norm_groups: int | None = None,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        check_odd("kernel_size", kernel_size)
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        groups = channels if groups is None else check_divisor("groups", groups, channels)
        if norm_groups is None:
            norm_groups = largest_divisor(channels, 16)
        factory = {"device": device, "dtype": dtype}
        self.conv = nn.Conv1d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False, **factory
        )
        self.gn = GroupNorm(check_divisor("norm_groups", norm_groups, channels), channels, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.conv.reset_parameters()
        self.gn.reset_parameters()
        if self.identity:
            nn.init.zeros_(self.gn.weight)

    @property
    def neutral(self) -> float:
        """The gate where both z are 0: the product of two."""
        return 1.0 if self.identity else 0.25

    def settings(self) -> dict[str, Any]:
        """Return the value of every option, the groups as numbers."""
        return {**super().settings(), "groups": self.conv.groups, "norm_groups": self.gn.num_groups}

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``kernel_size``, and ``groups`` where the convolution is not depthwise."""
        weight = shapes.get("conv.weight", ())
        if len(weight) != 3:
            return {}
        channels, width, kernel = weight
        return {"kernel_size": kernel, "groups": None if width == 1 else channels // width}

    def line(self, averages: Tensor) -> Tensor:
        """Return the gates of one direction: ``(N, C, L)`` → ``(N, C, L)``."""
        return apply_gate(self.gn(self.conv(averages)), self.gate, self.identity)

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``: rows times columns."""
        return Gates(full=self.line(x.mean(3))[:, :, :, None] * self.line(x.mean(2))[:, :, None, :])

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, gate={self.gate!r}, identity={self.identity}"
