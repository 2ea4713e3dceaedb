"""Shuffle attention, SA-Net."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..errors import WhatwhereError
from .attention import Attention
from .checks import check_count, check_flag, check_multiple, largest_divisor
from .gate import apply_gate, check_gate
from .key_map import KeyMap
from .registry import register

_NAMES = ("cweight", "cbias", "sweight", "sbias", "gn")


@register(
    "shuffle",
    title="shuffle attention: gates for half of each group's channels, positions for the other half",
    paper="SA-Net, ICASSP 2021, arXiv 2102.00240",
    code="https://github.com/wofmanaf/SA-Net",
    formula="shuffle([u · σ(w₁·avg(u) + b₁), v · σ(w₂·norm(v) + b₂)]) in groups of channels [u, v]",
    kind="permuting",
    min_channels=2,
    channel_divisor=2,
    key_maps=(
        KeyMap(
            "the official SA-Net code",
            {name: name for name in _NAMES},
            r"(?P<block>.+)\.sa",
            options={"gate": "sigmoid"},
        ),
    ),
)
class ShuffleAttention(Attention):
    r"""Shuffle attention: in each group, one half of the channels gets channel gates, the other half gates by position.

    The channels are cut into G groups, and each group into halves u and v:

    .. math::
        u' = u \cdot \sigma(w_1 \cdot avg(u) + b_1), \qquad
        v' = v \cdot \sigma(w_2 \cdot norm(v) + b_2), \qquad
        y = shuffle([u', v'])

    where norm subtracts the mean of each channel of each image and divides by its standard deviation, and then has a
    weight and a bias of its own. All groups have the same w and b, vectors of C/2G. At last the channels are permuted:
    channel 2i of the output is channel i, channel 2i + 1 is channel C/2 + i.

    Args:
        channels: C of the maps, even.
        groups: G, with C a multiple of 2G; None takes 64, or where that does not divide C/2, the largest number below
            64 that does.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start as the identity: gates are 2·σ(z), w and b start at 0, and the channels are not permuted.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``. It has no ``gates``: its output is no product of the map and gates.

    Paper:
        SA-Net (arXiv 2102.00240); official code: wofmanaf/SA-Net, ``models/sa_resnet.py``, after the last
        normalisation of a block. w starts at 0 and b at 1, so the output is 0.73 x with its channels permuted.

    Deviations from the official code: fewer groups where 64 do not fit, where the official code raises or, as for 192
    channels, cuts groups into halves of 2 and 1 channels. The form with ``identity`` keeps the order of the channels:
    with the permutation no values of the parameters make an identity.

    Copies: External-Attention-pytorch has 8 groups by default: weights trained with it need ``groups=8``.

    Raises:
        WhatwhereError: ``channels`` that are odd or no multiple of 2G, an unknown gate, ``identity`` that is neither
            True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> attention = ww.ShuffleAttention(256)
        >>> attention.cweight.shape, attention(torch.randn(2, 256, 7, 7)).shape
        (torch.Size([1, 2, 1, 1]), torch.Size([2, 256, 7, 7]))
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
        super().__init__(check_multiple("channels", channels, 2, "each group is cut into halves"))
        if groups is None:
            groups = largest_divisor(channels // 2, 64)
        elif channels // 2 % check_count("groups", groups):
            near = largest_divisor(channels // 2, groups)
            raise WhatwhereError(f"groups must divide half of the {channels} channels, got {groups}: take {near}")
        self.groups = groups
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        half = channels // (2 * self.groups)
        factory = {"device": device, "dtype": dtype}
        for name in _NAMES[:4]:
            self.register_parameter(name, nn.Parameter(torch.empty(1, half, 1, 1, **factory)))
        self.gn = nn.GroupNorm(half, half, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the parameters to their start; nothing about it is random."""
        self.gn.reset_parameters()
        for name in _NAMES[:4]:
            nn.init.constant_(self.get_parameter(name), 0.0 if "weight" in name or self.identity else 1.0)

    def settings(self) -> dict[str, Any]:
        """Return the options, the number of groups as a number."""
        return {**super().settings(), "groups": self.groups}

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map, permuted unless it starts as the identity."""
        half = self.channels // (2 * self.groups)
        u, v = torch.unflatten(x, 1, (self.groups, 2, half)).unbind(2)  # (N, G, C/2G, H, W)
        z_u = self.get_parameter("cweight") * u.mean((3, 4), keepdim=True) + self.get_parameter("cbias")
        # One channel a group. torch.nn.functional has the same op, but refuses one value a channel.
        weight, bias = (p.repeat(self.groups) for p in (self.gn.weight, self.gn.bias))
        normal = torch.group_norm(v.flatten(1, 2), self.channels // 2, weight, bias, self.gn.eps)
        normal = torch.unflatten(normal, 1, (self.groups, half))
        z_v = self.get_parameter("sweight") * normal + self.get_parameter("sbias")
        z = torch.stack([z_u.expand_as(z_v), z_v], 2).flatten(1, 3)
        y = ops.apply_gates(x, full=apply_gate(z, self.gate, self.identity))
        return y if self.identity else F.channel_shuffle(y, 2)

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, groups={self.groups}, gate={self.gate!r}, identity={self.identity}"
