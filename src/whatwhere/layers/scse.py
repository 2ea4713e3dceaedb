"""scSE, concurrent spatial and channel squeeze and excitation."""

from typing import Any

import torch
from torch import Tensor, nn

from .. import ops
from .attention import GatedAttention, Gates
from .checks import check_choice, check_flag, hidden_width
from .gate import apply_gate, check_gate
from .key_map import KeyMap, Shapes
from .mlp import reduction_from
from .registry import register


def _dense(name: str, tensor: Tensor) -> Tensor:
    """Return the weight of a 1×1 convolution of the channel branch, ``(O, I, 1, 1)``, as a dense layer's."""
    return tensor.flatten(1) if name.startswith("cSE.") and tensor.ndim == 4 else tensor


@register(
    "scse",
    title="concurrent spatial and channel squeeze and excitation",
    paper="scSE, MICCAI 2018, arXiv 1803.02579; journal arXiv 1808.08127",
    code="https://github.com/ai-med/squeeze_and_excitation",
    formula="max(x·c, x·s), c = σ(W₂ ReLU(W₁ avg(x))), s = σ(conv₁ₓ₁(x))",
    kind="full",
    key_maps=(
        KeyMap(
            "the official scSE code",
            {"cSE.fc1": "cSE.fc1", "cSE.fc2": "cSE.fc2", "sSE.conv": "sSE.conv"},
            options={"combine": "max", "gate": "sigmoid"},
        ),
        KeyMap(
            "scSE in segmentation_models.pytorch",
            {"cSE.1": "cSE.fc1", "cSE.3": "cSE.fc2", "sSE.0": "sSE.conv"},
            options={"combine": "add", "gate": "sigmoid"},
            convert=_dense,
        ),
    ),
)
class SCSE(GatedAttention):
    r"""Squeeze and excitation of the channels ("what") beside one of the positions ("where"), joined by a maximum.

    .. math::
        c &= \sigma\big(W_2\, ReLU(W_1\, avg(x) + b_1) + b_2\big), \qquad s = \sigma\big(f^{1 \times 1}(x)\big) \\
        y &= \max(x \cdot c,\; x \cdot s)

    The maximum is of the products: where x is negative it takes the smaller gate.

    Args:
        channels: C of the maps.
        reduction: r; the hidden width of the channel branch is max(1, C // r).
        combine: ``max`` as in the official code, or ``add`` as in the MICCAI paper and in
            segmentation_models.pytorch: x·c + x·s.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: both last layers start at 0, and c and s are 2·σ(z); for ``add`` they
            stay σ(z), since their sum is 1 then.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``: where x is positive the larger of c and s,
        where it is negative the smaller, where it is 0 their mean (0 is a tie, and the gradient of a maximum is split
        there); for ``add`` the sum c + s, in (0, 2).

    Paper:
        scSE (arXiv 1803.02579; journal 1808.08127); official code: ai-med/squeeze_and_excitation,
        ``squeeze_and_excitation/squeeze_and_excitation.py``, ``ChannelSpatialSELayer``: dense layers with biases,
        r = 2, PyTorch's initial values. At the start both gates are about ½, and so is y against x.

    Deviations from the official code: the hidden width is at least 1; the weights that its spatial branch accepts for
        few-shot learning are not an option. The default follows the code (a maximum), where the MICCAI paper adds.

    Copies: segmentation_models.pytorch adds the products, has r = 16 and 1×1 convolutions in place of the dense layers;
        fewer than 16 channels fail there. Its weights load here with ``combine="add", reduction=16``.

    Raises:
        WhatwhereError: an unknown ``combine`` or gate, ``channels`` or ``reduction`` below 1, ``identity`` that is
            neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.SCSE(64, combine="add").gates(torch.rand(2, 64, 7, 7)).full.shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 2,
        combine: str = "max",
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(channels)
        hidden = hidden_width(channels, reduction)
        self.combine = check_choice("combine", combine, ("max", "add"))
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        factory = {"device": device, "dtype": dtype}
        self.cSE = nn.ModuleDict(
            {"fc1": nn.Linear(channels, hidden, **factory), "fc2": nn.Linear(hidden, channels, **factory)}
        )
        self.sSE = nn.ModuleDict({"conv": nn.Conv2d(channels, 1, 1, **factory)})
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for layer in (*self.cSE.values(), *self.sSE.values()):
            assert isinstance(layer, (nn.Linear, nn.Conv2d))
            layer.reset_parameters()
        if self.identity:
            for last in (self.cSE["fc2"], self.sSE["conv"]):
                for parameter in last.parameters():
                    nn.init.zeros_(parameter)

    @property
    def neutral(self) -> float:
        """The gate where both z are 0: the sum is 1 in either form."""
        return 1.0 if self.combine == "add" else super().neutral

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``reduction``."""
        return reduction_from(shapes.get("cSE.fc1.weight"))

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gates of the two branches, ``(N, C, 1, 1)`` and ``(N, 1, H, W)``."""
        doubled = self.identity and self.combine == "max"
        hidden = torch.relu(self.cSE["fc1"](ops.squeeze_space(x, ("avg",))[:, 0]))
        channel = apply_gate(self.cSE["fc2"](hidden)[:, :, None, None], self.gate, doubled)
        return channel, apply_gate(self.sSE["conv"](x), self.gate, doubled)

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``."""
        channel, spatial = self.branches(x)
        if self.combine == "add":
            return Gates(full=channel + spatial)
        # max(x·c, x·s) / x, with the gradient of the maximum: halves in a tie.
        larger, smaller = torch.maximum(channel, spatial), torch.minimum(channel, spatial)
        unequal = torch.where(x > 0, larger, smaller)
        return Gates(full=torch.where(x == 0, (channel + spatial) / 2, unequal))

    def attend(
        self, x: Tensor, *, norm: nn.BatchNorm2d | None = None, residual: Tensor | None = None, relu: bool = False
    ) -> Tensor:
        """Return the tail of a residual block; the maximum is taken of the two products, with no gate in between."""
        if self.combine == "add" or "gates" in self.__dict__:  # a listener to the gates
            return super().attend(x, norm=norm, residual=residual, relu=relu)
        u = x if norm is None else type(norm).forward(norm, x)
        channel, spatial = self.branches(u)
        y = torch.maximum(ops.apply_gates(u, channel), ops.apply_gates(u, None, spatial))
        return ops.apply_gates(y, residual=residual, relu=relu)

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, combine={self.combine!r}, gate={self.gate!r}, identity={self.identity}"
