"""SK, selective kernel convolution."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..errors import WhatwhereError
from .attention import Attention
from .checks import check_count, check_flag, check_multiple, check_odd, largest_divisor
from .key_map import KeyMap, Shapes
from .norm import BatchNorm2d
from .registry import register

_GROUPS = 32
_MOMENTUM = 0.05
"""Caffe's moving_average_fraction of 0.95."""
_PARTS = [
    *(f"paths.{i}.{part}" for i in range(8) for part in ("conv", "bn")),
    *("attn.fc_reduce", "attn.bn", "attn.fc_select"),
]


@register(
    "sk",
    title="selective kernel convolution",
    paper="SKNet, CVPR 2019, arXiv 1903.06586",
    code="https://github.com/implus/SKNet",
    formula="Σᵢ aᵢ · ReLU(BN(fᵢ(x))), a = softmax over i of W₂ ReLU(BN(W₁ avg(Σᵢ ReLU(BN(fᵢ(x))))))",
    kind="replacing",
    exact_identity=False,
    key_maps=(KeyMap("timm's SelectiveKernel", {part: part for part in _PARTS}),),
)
class SelectiveKernel(Attention):
    r"""Convolutions of several sizes, of which every channel of every image takes its own mixture.

    .. math::
        u_i &= ReLU(BN(f_i(x))) \\
        z &= ReLU\big(BN(W_1\, avg(\textstyle\sum_i u_i))\big) \\
        a &= softmax_i(W_2\, z) \\
        y &= \textstyle\sum_i a_i \cdot u_i

    where softmax is over the branches i, for each channel.

    Args:
        channels: C of the maps.
        kernels: the sizes of the branches' convolutions, odd, 3 and more.
        dilated: whether kernels above 3 are 3×3 with a dilation of (size - 1)/2, as in the official network; otherwise
            they are whole.
        stride: of the convolutions.
        groups: of the convolutions; None takes 32, or the largest divisor of C below it.
        reduction: r; the hidden width is max(C // r, 32).
        hidden: the hidden width itself, in place of ``reduction``.
        identity: without effect. The output of a ReLU cannot be any map that comes in.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; with a stride s ``(N, C, ceil(H/s), ceil(W/s))``.

    Paper:
        SKNet (arXiv 1903.06586); official code: implus/SKNet, Caffe, ``models/sknet50.prototxt``, in place of the
        grouped 3×3 convolutions of a ResNeXt-50 32×4d and of the normalisation and ReLU behind each. The second branch,
        5×5 in the paper's drawing, is 3×3 with dilation 2. No biases. Running statistics move by 0.05. Convolutions
        start He-normal (fan-in), the two dense layers normal with a standard deviation of 0.01, so that at the start y
        is nearly the mean of the branches.

    Deviations: C that 32 does not divide is cut in fewer groups, where the official code cannot be built. A training
    batch of one image takes the running statistics in the normalisation of the squeezed map, where PyTorch's BatchNorm
    raises. With two images that normalisation is close to a sign function.

    Copies: timm's ``SelectiveKernel`` is the same with ``split_input=False``; by default it gives each branch a half of
    the channels, and its hidden width is C/16 rounded to a multiple of 8. Its running statistics move by 0.1.

    Raises:
        WhatwhereError: ``groups`` that do not divide C, a kernel that is even or 1, fewer than two or more than eight
            kernels, a number below 1, a flag that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.SelectiveKernel(64, stride=2)(torch.rand(2, 64, 7, 7)).shape
        torch.Size([2, 64, 4, 4])
    """

    def __init__(
        self,
        channels: int,
        *,
        kernels: Sequence[int] = (3, 5),
        dilated: bool = True,
        stride: int = 1,
        groups: int | None = None,
        reduction: int = 16,
        hidden: int | None = None,
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        if not 2 <= len(kernels) <= 8:
            raise WhatwhereError(f"kernels must be two to eight sizes, got {tuple(kernels)!r}")
        if groups is not None:
            check_multiple("channels", channels, check_count("groups", groups), "groups")
        self.kernels = tuple(_check_kernel(kernel) for kernel in kernels)
        self.dilated = check_flag("dilated", dilated)
        self.stride = check_count("stride", stride)
        self.groups = largest_divisor(channels, _GROUPS) if groups is None else groups
        self.identity = check_flag("identity", identity)
        width = max(channels // check_count("reduction", reduction), 32) if hidden is None else hidden
        check_count("hidden", width)
        factory = {"device": device, "dtype": dtype}
        self.paths = nn.ModuleList()
        for kernel in self.kernels:
            size, dilation = (3, (kernel - 1) // 2) if dilated else (kernel, 1)
            conv = nn.Conv2d(
                channels,
                channels,
                size,
                self.stride,
                dilation * (size // 2),
                dilation,
                self.groups,
                bias=False,
                **factory,
            )
            norm = BatchNorm2d(channels, momentum=_MOMENTUM, **factory)
            self.paths.append(nn.Sequential(OrderedDict(conv=conv, bn=norm)))
        self.attn = nn.Sequential(
            OrderedDict(
                fc_reduce=nn.Conv2d(channels, width, 1, bias=False, **factory),
                bn=BatchNorm2d(width, momentum=_MOMENTUM, **factory),
                act=nn.ReLU(),
                fc_select=nn.Conv2d(width, len(self.kernels) * channels, 1, bias=False, **factory),
            )
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for module in self.modules():
            if isinstance(module, BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
                nn.init.normal_(module.weight, std=0.01)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``hidden`` and ``groups``."""
        reduce, first = shapes.get("attn.fc_reduce.weight", ()), shapes.get("paths.0.conv.weight", ())
        found: dict[str, Any] = {"hidden": reduce[0]} if len(reduce) == 4 else {}
        return {**found, "groups": first[0] // first[1]} if len(first) == 4 else found

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixture of the branches, ``(N, C, H, W)`` → ``(N, C, H, W)`` for a stride of 1."""
        branches = [F.relu(path(x)) for path in self.paths]
        squeezed = torch.stack([ops.squeeze_space(u, ("avg",))[:, 0] for u in branches]).sum(0)
        z: Tensor = self.attn(squeezed[:, :, None, None])
        weights = z.reshape(-1, len(branches), self.channels, 1, 1).softmax(1).to(branches[0].dtype)
        y: Tensor = branches[0] * weights[:, 0]
        for i, u in enumerate(branches[1:], 1):
            y = y + u * weights[:, i]
        return y

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, kernels={self.kernels}, stride={self.stride}, identity={self.identity}"


def _check_kernel(kernel: int) -> int:
    if check_odd("kernels", kernel) == 1:
        raise WhatwhereError("kernels must be 3 and more, got 1")
    return kernel
