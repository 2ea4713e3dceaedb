"""GAM, the global attention mechanism."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from .attention import GatedAttention, Gates
from .checks import check_choice, check_flag, check_odd, hidden_width
from .gate import apply_gate, check_gate
from .key_map import KeyMap, Shapes
from .mlp import reduction_from
from .norm import BatchNorm2d
from .registry import register

_PARTS = ("linear1", "linear2", "conv1", "norm1", "conv2", "norm2")
_COPY = (
    "channel_attention.0",
    "channel_attention.2",
    "spatial_attention.0",
    "spatial_attention.1",
    "spatial_attention.3",
    "spatial_attention.4",
)


@register(
    "gam",
    title="global attention mechanism",
    paper="GAM, 2021, arXiv 2112.05561",
    code="https://github.com/dengbuqi/GAM_Pytorch",
    formula="a · σ(BN(conv₇ₓ₇(ReLU(BN(conv₇ₓ₇(x·a)))))), a = W₂ ReLU(W₁ x) at each position",
    kind="full",
    bounded=False,
    key_maps=(
        KeyMap(
            "dengbuqi's GAM",
            {part: part for part in _PARTS},
            options={"gate": "sigmoid", "channel_gate": False, "padding": "replicate"},
        ),
        KeyMap(
            "GAM as in collections for YOLO",
            dict(zip(_COPY, _PARTS, strict=True)),
            options={"gate": "sigmoid", "padding": "zeros"},
        ),
    ),
)
class GAM(GatedAttention):
    r"""Channel factors from an MLP at each position, then gates from two large convolutions of full width.

    .. math::
        a &= W_2\, ReLU(W_1\, x + b_1) + b_2 \quad \text{at each position} \\
        s &= \sigma\big(BN\big(f^{7 \times 7}\big(ReLU(BN(f^{7 \times 7}(x \cdot a)))\big)\big)\big) \\
        y &= x \cdot a \cdot s

    Args:
        channels: C of the maps.
        reduction: r; the hidden width of both parts is max(1, C // r).
        kernel_size: of both convolutions, odd.
        channel_gate: whether a passes the gate function too (see below).
        padding: of both convolutions: ``replicate``, the map's border values, or ``zeros``.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: W₂, b₂ and the last normalisation's weight and bias start at 0, the
            factor is 1 + a (with ``channel_gate`` 2·σ(a)), and s is 2·σ(z).
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``, a · s, which may have any value, unless
        ``channel_gate``.

    Paper:
        GAM (arXiv 2112.05561). There is no official code. The reference here is dengbuqi/GAM_Pytorch, ``CAM.py``:
        layers with biases, PyTorch's initial values, a without gate function, replicated borders. At the start y is
        small against x, as a is. 2·49·C²/r weights in the convolutions alone: 1.64 million parameters at C = 256.

    Deviations from the reference: the hidden width is at least 1. A training batch with one value a channel takes the
        running statistics, where PyTorch's BatchNorm raises.

    Copies: they differ in the gate function of a and in the padding (those of the collections for YOLO have zeros, and
        z1069614715/objectdetection_script a sigmoid on a); both are options. Some group the convolutions and shuffle
        the channels, or have another activation, which is not here.

    Raises:
        WhatwhereError: an even kernel, an unknown padding or gate, ``channels`` or ``reduction`` below 1,
            ``channel_gate`` or ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.GAM(16).gates(torch.rand(2, 16, 7, 7)).full.shape
        torch.Size([2, 16, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        kernel_size: int = 7,
        channel_gate: bool = False,
        padding: str = "replicate",
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(channels)
        hidden = hidden_width(channels, reduction)
        check_odd("kernel_size", kernel_size)
        self.channel_gate = check_flag("channel_gate", channel_gate)
        self.padding = check_choice("padding", padding, ("replicate", "zeros"))
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.border = kernel_size // 2 if padding == "replicate" else 0
        same: dict[str, Any] = {"padding": kernel_size // 2 - self.border, **factory}
        self.linear1 = nn.Linear(channels, hidden, **factory)
        self.linear2 = nn.Linear(hidden, channels, **factory)
        self.conv1 = nn.Conv2d(channels, hidden, kernel_size, **same)
        self.norm1 = BatchNorm2d(hidden, **factory)
        self.conv2 = nn.Conv2d(hidden, channels, kernel_size, **same)
        self.norm2 = BatchNorm2d(channels, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for layer in (self.linear1, self.linear2, self.conv1, self.norm1, self.conv2, self.norm2):
            layer.reset_parameters()
        if self.identity:
            for parameter in (*self.linear2.parameters(), *self.norm2.parameters()):
                nn.init.zeros_(parameter)

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``reduction`` and ``kernel_size``."""
        kernel = shapes.get("conv1.weight", ())
        found: dict[str, Any] = {"kernel_size": kernel[-1]} if len(kernel) == 4 else {}
        return {**reduction_from(shapes.get("linear1.weight")), **found}

    def factors(self, x: Tensor) -> Tensor:
        """Return a, ``(N, C, H, W)``."""
        hidden = torch.relu(F.conv2d(x, self.linear1.weight[:, :, None, None], self.linear1.bias))
        a = F.conv2d(hidden, self.linear2.weight[:, :, None, None], self.linear2.bias)
        if self.channel_gate:
            return apply_gate(a, self.gate, self.identity)
        return 1 + a if self.identity else a

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``."""
        a = self.factors(x)
        u = ops.apply_gates(x, None, None, a)
        hidden = torch.relu(self.norm1(self.conv1(_replicate(u, self.border))))
        z = self.norm2(self.conv2(_replicate(hidden, self.border)))
        return Gates(full=a * apply_gate(z, self.gate, self.identity))

    def extra_repr(self) -> str:
        """Say the options."""
        return (
            f"{self.channels}, channel_gate={self.channel_gate}, padding={self.padding!r}, gate={self.gate!r}, "
            f"identity={self.identity}"
        )


def _replicate(x: Tensor, border: int) -> Tensor:
    """Repeat the border values of a map on all sides.

    As ``F.pad(mode="replicate")``, whose gradient does not compile where the map is channels_last.
    """
    for dim in (2, 3) if border else ():
        size = [-1, -1, -1, -1]
        size[dim] = border
        first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
        x = torch.cat((first.expand(size), x, last.expand(size)), dim)
    return x
