"""EPSA, pyramid squeeze attention."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..errors import WhatwhereError
from .attention import Attention
from .checks import check_choice, check_count, check_flag, check_multiple, check_odd, hidden_width, largest_divisor
from .key_map import KeyMap, Shapes
from .registry import register

_GROUPS = (1, 4, 8, 16)
_PARTS = {part: part for part in (*(f"conv_{i}" for i in range(1, 9)), "se.fc1", "se.fc2")}


@register(
    "epsa",
    title="pyramid squeeze attention of EPSANet",
    paper="EPSANet, ACCV 2022, arXiv 2105.14447",
    code="https://github.com/murufeng/EPSANet",
    formula="[aᵢ · fᵢ(x)]ᵢ, a = softmax over i of σ(W₂ ReLU(W₁ avg(fᵢ(x))))",
    kind="replacing",
    exact_identity=False,
    channel_divisor=4,
    key_maps=(KeyMap("the official EPSANet code", _PARTS),),
)
class EPSA(Attention):
    r"""Convolutions of several sizes side by side, each making a part of the channels, weighed against each other.

    .. math::
        u_i &= f_i(x) \\
        a &= softmax_i\big(\sigma(W_2\, ReLU(W_1\, avg(u_i) + b_1) + b_2)\big) \\
        y &= [a_S \cdot u_S, \dots, a_1 \cdot u_1]

    where S = 4 convolutions :math:`f_i` make C/S channels each, softmax is over them, and the layers W are the same for
    all.

    Args:
        channels: C of the maps, a multiple of the number of kernels.
        kernels: the sizes of the convolutions, odd.
        groups: of the convolutions, as many; None takes 1, 4, 8, 16 (and 16 from there on), or for each the largest
            divisor of C/S below it.
        reduction: r; the hidden width is max(1, C/S // r).
        order: ``reversed`` joins the last convolution's channels first, as the official code does; ``forward`` joins
            them as the paper has it.
        stride: of the convolutions.
        identity: without effect. Grouped convolutions cannot bring every channel to its place.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; with a stride s ``(N, C, ceil(H/s), ceil(W/s))``.

    Paper:
        EPSANet (arXiv 2105.14447); official code: murufeng/EPSANet, ``models/epsanet.py``, class ``PSAModule``, in
        place of a bottleneck's 3×3 convolution; normalisation and ReLU come behind it. The convolutions have no biases,
        the layers W have. Weights start normal with a variance of 2/(k²·outputs), biases as PyTorch's. Since the
        softmax is over values between 0 and 1, its results for S = 4 are between 0.109 and 0.475, and y starts at
        about a quarter of the convolutions' outputs.

    Deviations: the hidden width is at least 1, and groups that do not fit are fewer, where the official code cannot be
    built or raises.

    Copies: External-Attention-pytorch's ``PSA`` keeps its layers in plain lists, so an optimiser does not see them.

    Raises:
        WhatwhereError: C that is no multiple of the number of kernels, other than two to eight kernels, an even one,
            ``groups`` that do not divide C/S or are not as many, an unknown ``order``, a number below 1, ``identity``
            that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> attention = ww.EPSA(64)
        >>> [conv.groups for conv in attention.convolutions()]
        [1, 4, 8, 16]
    """

    def __init__(
        self,
        channels: int,
        *,
        kernels: Sequence[int] = (3, 5, 7, 9),
        groups: Sequence[int] | None = None,
        reduction: int = 16,
        order: str = "reversed",
        stride: int = 1,
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(channels)
        if not 2 <= len(kernels) <= 8:
            raise WhatwhereError(f"kernels must be two to eight sizes, got {tuple(kernels)!r}")
        check_multiple("channels", channels, len(kernels), "as many equal parts as kernels")
        self.kernels = tuple(check_odd("kernels", kernel) for kernel in kernels)
        part = channels // len(kernels)
        if groups is None:
            official = (*_GROUPS, *[_GROUPS[-1]] * 4)
            groups = [largest_divisor(part, official[i]) for i in range(len(kernels))]
        elif len(groups) != len(kernels):
            raise WhatwhereError(f"groups must be as many as kernels, got {len(groups)} and {len(kernels)}")
        self.groups = tuple(groups)
        for number in self.groups:
            check_multiple(f"channels / {len(kernels)}", part, check_count("groups", number), "groups")
        self.order = check_choice("order", order, ("reversed", "forward"))
        self.stride = check_count("stride", stride)
        self.identity = check_flag("identity", identity)
        hidden = hidden_width(part, reduction)
        factory = {"device": device, "dtype": dtype}
        for i, (kernel, number) in enumerate(zip(self.kernels, self.groups, strict=True), 1):
            conv = nn.Conv2d(channels, part, kernel, stride, kernel // 2, groups=number, bias=False, **factory)
            self.add_module(f"conv_{i}", conv)
        fc1, fc2 = nn.Conv2d(part, hidden, 1, **factory), nn.Conv2d(hidden, part, 1, **factory)
        self.se = nn.ModuleDict({"fc1": fc1, "fc2": fc2})
        self.reset_parameters()

    def convolutions(self) -> list[nn.Module]:
        """Return the convolutions in the order of ``kernels``."""
        return [self.get_submodule(f"conv_{i}") for i in range(1, len(self.kernels) + 1)]

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                conv.reset_parameters()
                height, width = conv.kernel_size
                nn.init.normal_(conv.weight, std=(2 / (height * width * conv.out_channels)) ** 0.5)

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``kernels`` and ``groups``."""
        names = [name for i in range(1, 9) if len(shapes.get(name := f"conv_{i}.weight", ())) == 4]
        if not names:
            return {}
        channels = sum(shapes[name][0] for name in names)
        kernels = tuple(shapes[name][-1] for name in names)
        return {"kernels": kernels, "groups": tuple(channels // max(1, shapes[name][1]) for name in names)}

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighed parts, ``(N, C, H, W)`` → ``(N, C, H, W)`` for a stride of 1."""
        parts = [conv(x) for conv in self.convolutions()]
        squeezed = torch.cat([ops.squeeze_space(u, ("avg",)) for u in parts], 1)
        z = self.se["fc2"](F.relu(self.se["fc1"](squeezed.flatten(0, 1)[:, :, None, None])))
        weights = z.sigmoid().unflatten(0, (-1, len(parts))).softmax(1).to(parts[0].dtype)
        weighed = [u * weights[:, i] for i, u in enumerate(parts)]
        return torch.cat(weighed[::-1] if self.order == "reversed" else weighed, 1)

    def extra_repr(self) -> str:
        """Say the options."""
        return (
            f"{self.channels}, kernels={self.kernels}, groups={self.groups}, order={self.order!r}, "
            f"stride={self.stride}, identity={self.identity}"
        )
