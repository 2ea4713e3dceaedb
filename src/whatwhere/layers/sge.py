"""SGE, the spatial group-wise enhance module."""

from typing import Any

import torch
from torch import Tensor, nn

from .attention import GatedAttention, Gates
from .checks import check_count, check_divisor, check_flag, largest_divisor
from .gate import apply_gate, check_gate
from .key_map import KeyMap, Shapes
from .moments import mean_and_variance, root, wide
from .registry import register


@register(
    "sge",
    title="spatial group-wise enhance",
    paper="SGE, 2019, arXiv 1905.09646",
    code="https://github.com/implus/PytorchInsight",
    formula="σ(w · norm(Σ x · avg(x)) + b), the sum over the channels of a group",
    kind="full",
    key_maps=(
        KeyMap(
            "the official SGE code",
            {"weight": "weight", "bias": "bias"},
            r"(?P<block>.+)\.sge",
            options={"gate": "sigmoid"},
        ),
    ),
)
class SGE(GatedAttention):
    r"""Spatial group-wise enhance: each group of channels gates positions by how like the group's average they are.

    In each of G groups of channels:

    .. math::
        t = \sum_{c} x_c \cdot avg(x_c), \qquad
        z = w \cdot \frac{t - avg(t)}{std(t) + 10^{-5}} + b, \qquad y = x \cdot \sigma(z)

    with averages and standard deviations over positions. w and b are numbers, one of each a group.

    Args:
        channels: C of the maps.
        groups: G, a divisor of C; None takes 64, or where that does not divide C, the largest divisor below 64.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gate is 2·σ(z), and w and b start at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``, the same for all channels of a group.

    Paper:
        SGE (arXiv 1905.09646); official code: implus/PytorchInsight, ``classification/models/imagenet/resnet_sge.py``,
        after the last normalisation of a block. std divides by HW − 1. w starts at 0 and b at 1: the output is 0.73 x.

    Deviations from the official code: fewer groups where 64 do not divide C, where the official code raises. On a map
    of one position z is b, where the official code gives NaN. Any memory format, where the official code raises for
    ``channels_last``. float16 and bfloat16 maps have their gates computed in float32.

    Copies: External-Attention-pytorch starts b at 0.

    Raises:
        WhatwhereError: ``channels`` below 1, ``groups`` that do not divide them, an unknown gate, ``identity`` that is
            neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.SGE(256).weight.shape, ww.SGE(20).weight.shape
        (torch.Size([1, 64, 1, 1]), torch.Size([1, 20, 1, 1]))
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
        self.groups = check_divisor("groups", largest_divisor(channels, 64) if groups is None else groups, channels)
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        self.weight = nn.Parameter(torch.empty(1, self.groups, 1, 1, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(1, self.groups, 1, 1, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the parameters to their start; nothing about it is random."""
        nn.init.zeros_(self.weight)
        nn.init.constant_(self.bias, 0.0 if self.identity else 1.0)

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``groups``."""
        weight = shapes.get("weight", ())
        return {"groups": weight[1]} if len(weight) == 4 else {}

    def settings(self) -> dict[str, Any]:
        """Return the options, the number of groups as a number."""
        return {**super().settings(), "groups": self.groups}

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``."""
        u = wide(x)
        alike = torch.unflatten(u * u.mean((2, 3), keepdim=True), 1, (self.groups, -1)).sum(2)
        mean, variance = mean_and_variance(alike)
        z = self.weight * ((alike - mean) / (root(variance) + 1e-5)) + self.bias
        gate = apply_gate(z, self.gate, self.identity).to(x.dtype)
        many = gate.unsqueeze(2).expand(-1, -1, self.channels // self.groups, -1, -1)
        return Gates(full=many.flatten(1, 2))

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, groups={self.groups}, gate={self.gate!r}, identity={self.identity}"
