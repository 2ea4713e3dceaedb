"""A², double attention: features gathered from the whole map, then distributed to every position."""

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError
from .attention import Attention
from .checks import check_count, check_flag, hidden_width
from .key_map import KeyMap, Shapes
from .registry import register

_PARTS = ("convA", "convB", "convV", "conv_reconstruct")


@register(
    "a2",
    title="double attention",
    paper="A²-Nets, NeurIPS 2018, arXiv 1810.11579",
    code="https://github.com/nguyenvo09/Double-Attention-Network",
    formula="x + W A softmax(B)ᵀ softmax(V); A, B, V = 1×1(x)",
    kind="residual",
    key_maps=(
        KeyMap("nguyenvo09's Double-Attention-Network", {part: part for part in _PARTS}, options={"residual": False}),
    ),
)
class DoubleAttention(Attention):
    r"""Double attention: n descriptors are gathered from the whole map, and each position takes its own mix of them.

    .. math::
        G = A\, \mathrm{softmax}_p(B)^T, \qquad Z = G\, \mathrm{softmax}_n(V), \qquad y = x + W Z + b

    A (m × HW), B and V (n × HW) are 1 × 1 convolutions of x with biases. The first softmax is over the positions of
    each descriptor, the second over the n descriptors at each position.

    Args:
        channels: C of the maps.
        reduction: r; m and n are max(1, C // r).
        width: m itself, the length of a descriptor; C unless told otherwise where ``reconstruct`` is False.
        descriptors: n itself, how many there are.
        reconstruct: whether the convolution W brings m channels back to C. Without it m must be C and y = x + Z.
        residual: whether x is added. False is the reference code's bare form, y = W Z + b, which leaves the addition to
            the caller.
        identity: start at exactly x: the last convolution (W, or that of A where there is no W) starts at 0. Needs
            ``residual``.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``.

    Memory:
        grows with HW, not with its square: the weights are two maps of n channels.

    Paper:
        A²-Nets (arXiv 1810.11579), which published no code. m = n = C/4, a last convolution and the addition of x are
        the paper's. Reference for the formula: nguyenvo09/Double-Attention-Network, ``double_attention_layer.py``,
        whose constructor asks for m and n and by default has no last convolution. It starts as PyTorch's convolutions
        do, so that y differs from x.

    Deviations from the reference code: the last convolution and the addition of x, both options. m and n are at least
    1.

    The bias of B has no effect: softmax over positions does not see it.

    Copies: External-Attention-pytorch calls softmax without naming an axis, and PyTorch takes that of the batch: the
    weights of one image alone are all 1, and images of a batch change each other.

    Raises:
        WhatwhereError: a number below 1, m other than C without ``reconstruct``, ``identity`` without ``residual``, a
            flag that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.DoubleAttention(64).convA.out_channels, ww.DoubleAttention(64, descriptors=8).convB.out_channels
        (16, 8)
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        width: int | None = None,
        descriptors: int | None = None,
        reconstruct: bool = True,
        residual: bool = True,
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.residual = check_flag("residual", residual)
        self.identity = check_flag("identity", identity)
        if not check_flag("reconstruct", reconstruct):
            width = channels if width is None else width
            if width != channels:
                raise WhatwhereError(
                    f"without the last convolution (reconstruct=False) width is the channels, {channels}, not {width}"
                )
        if identity and not residual:
            raise WhatwhereError("identity=True needs residual=True: without x added nothing of the map would remain")
        narrow = hidden_width(channels, reduction)
        self.width = narrow if width is None else check_count("width", width)
        self.descriptors = narrow if descriptors is None else check_count("descriptors", descriptors)
        factory = {"device": device, "dtype": dtype}
        self.convA = nn.Conv2d(channels, self.width, 1, **factory)
        self.convB = nn.Conv2d(channels, self.descriptors, 1, **factory)
        self.convV = nn.Conv2d(channels, self.descriptors, 1, **factory)
        self.conv_reconstruct = nn.Conv2d(self.width, channels, 1, **factory) if reconstruct else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for conv in (self.convA, self.convB, self.convV, self.conv_reconstruct):
            if conv is not None:
                conv.reset_parameters()
        if self.identity:
            for parameter in (self.convA if self.conv_reconstruct is None else self.conv_reconstruct).parameters():
                nn.init.zeros_(parameter)

    def settings(self) -> dict[str, Any]:
        """Return the value of every option that changes the formula, with m and n in place of the reduction."""
        found = {**super().settings(), "width": self.width, "descriptors": self.descriptors}
        del found["reduction"], found["identity"]
        return found

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``width``, ``descriptors`` and ``reconstruct``."""
        if not {"convA.weight", "convB.weight"} <= shapes.keys():
            return {}
        width, descriptors = shapes["convA.weight"][0], shapes["convB.weight"][0]
        return {"width": width, "descriptors": descriptors, "reconstruct": "conv_reconstruct.weight" in shapes}

    @property
    def idle_parameters(self) -> tuple[str, ...]:
        """The bias before the softmax over positions."""
        return ("convB.bias",)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with the distributed descriptors added, ``(N, C, H, W)`` → ``(N, C, H, W)``."""
        features: Tensor = self.convA(x).flatten(2)
        gathered = features @ self.convB(x).flatten(2).softmax(-1).to(features.dtype).mT  # (N, m, n)
        z: Tensor = gathered @ self.convV(x).flatten(2).softmax(1).to(gathered.dtype)
        z = z.reshape(*z.shape[:2], *x.shape[2:])
        if self.conv_reconstruct is not None:
            z = self.conv_reconstruct(z)
        if self.residual:
            return x + z.to(x.dtype)
        last = x.is_contiguous(memory_format=torch.channels_last)
        return z.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)

    def extra_repr(self) -> str:
        """Say the options."""
        options = f"width={self.width}, descriptors={self.descriptors}, residual={self.residual}"
        return f"{self.channels}, {options}, identity={self.identity}"
