"""Split attention, the convolution of ResNeSt."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from .attention import Attention
from .checks import check_count, check_flag, check_multiple, check_odd
from .key_map import KeyMap, Shapes
from .norm import BatchNorm2d
from .registry import register

_PARTS = {part: part for part in ("conv", "bn0", "fc1", "bn1", "fc2")}


@register(
    "splat",
    title="split attention, the convolution of ResNeSt",
    paper="ResNeSt, CVPR workshops 2022, arXiv 2004.08955",
    code="https://github.com/zhanghang1989/ResNeSt",
    formula="Σᵣ aᵣ · uᵣ, u = ReLU(BN(f(x))) in blocks, a = softmax over r of W₂ ReLU(BN(W₁ avg(Σᵣ uᵣ)))",
    kind="replacing",
    exact_identity=False,
    channel_divisor=2,
    key_maps=(KeyMap("the official split attention and timm's", _PARTS),),
)
class SplitAttention(Attention):
    r"""A convolution to several blocks of channels, of which every channel of every image takes its own mixture.

    .. math::
        u &= ReLU(BN(f(x))) \\
        z &= ReLU\big(BN(W_1\, avg(\textstyle\sum_r u_r) + b_1)\big) \\
        a &= softmax_r(W_2\, z + b_2) \\
        y &= \textstyle\sum_r a_r \cdot u_r

    where f makes radix blocks :math:`u_r` of C channels. With a radix of 1 softmax is the sigmoid.

    Args:
        channels: C of the maps, a multiple of radix · cardinality.
        radix: how many blocks there are to choose from.
        cardinality: the groups of the two layers W, each with weights of its own; f has radix · cardinality groups.
        stride: taken by an average of 3×3 (the zeros around the map counted), not by f.
        pool_first: put that average before f; otherwise behind y.
        kernel_size: of f, odd.
        reduction: the hidden width is max(C · radix // reduction, 32), and from there up to a multiple of the
            cardinality.
        hidden: the hidden width itself, in place of ``reduction``.
        identity: without effect. The output of a ReLU cannot be any map that comes in.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; with a stride s ``(N, C, ceil(H/s), ceil(W/s))``.

    Paper:
        ResNeSt (arXiv 2004.08955); official code: zhanghang1989/ResNeSt, ``resnest/torch/models/splat.py``, class
        ``SplAtConv2d``, and for the average ``resnet.py``. It takes the place of a bottleneck's 3×3 convolution and of
        the normalisation and ReLU behind it. The layers W have biases, although a normalisation follows the first.
        Weights of convolutions start normal with a variance of 2/(k²·outputs), biases as PyTorch's. The official
        network averages in the first block of every stage but the first, and in the first stage's with a stride of 1,
        which is no option here.

    Deviations: a hidden width that the cardinality does not divide is rounded up, where the official code cannot be
    built. A training batch of one image takes the running statistics in the normalisation of the squeezed map, where
    PyTorch's BatchNorm raises. With two images that normalisation is close to a sign function.

    Copies: timm's ``SplitAttn`` is the same, with the hidden width rounded to a multiple of 8.

    Raises:
        WhatwhereError: C or a hidden width that cannot be cut in groups, an even kernel, a number below 1, a flag that
            is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.SplitAttention(64, stride=2)(torch.rand(2, 64, 7, 7)).shape
        torch.Size([2, 64, 4, 4])
    """

    def __init__(
        self,
        channels: int,
        *,
        radix: int = 2,
        cardinality: int = 1,
        stride: int = 1,
        pool_first: bool = False,
        kernel_size: int = 3,
        reduction: int = 4,
        hidden: int | None = None,
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.radix = check_count("radix", radix)
        self.cardinality = check_count("cardinality", cardinality)
        self.stride = check_count("stride", stride)
        self.pool_first = check_flag("pool_first", pool_first)
        self.identity = check_flag("identity", identity)
        check_multiple("channels", channels, radix * cardinality, "radix times cardinality")
        check_odd("kernel_size", kernel_size)
        if hidden is None:
            least = max(channels * radix // check_count("reduction", reduction), 32)
            hidden = least + -least % cardinality
        check_multiple("hidden", hidden, cardinality, "cardinality")
        factory = {"device": device, "dtype": dtype}
        self.conv = nn.Conv2d(
            channels,
            channels * radix,
            kernel_size,
            padding=kernel_size // 2,
            groups=cardinality * radix,
            bias=False,
            **factory,
        )
        self.bn0 = BatchNorm2d(channels * radix, **factory)
        self.fc1 = nn.Conv2d(channels, hidden, 1, groups=cardinality, **factory)
        self.bn1 = BatchNorm2d(hidden, **factory)
        self.fc2 = nn.Conv2d(hidden, channels * radix, 1, groups=cardinality, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for conv in (self.conv, self.fc1, self.fc2):
            conv.reset_parameters()
            height, width = conv.kernel_size
            nn.init.normal_(conv.weight, std=(2 / (height * width * conv.out_channels)) ** 0.5)
        self.bn0.reset_parameters()
        self.bn1.reset_parameters()

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``radix``, ``cardinality``, ``kernel_size`` and ``hidden``."""
        conv, fc1 = shapes.get("conv.weight", ()), shapes.get("fc1.weight", ())
        if len(conv) != 4 or len(fc1) != 4 or not conv[1] or not fc1[1]:
            return {}
        # Of groups = radix · cardinality there are C / conv[1], and of the layers' groups C / fc1[1].
        radix = max(1, fc1[1] // conv[1])
        cardinality = max(1, conv[0] // radix // fc1[1])
        return {"radix": radix, "cardinality": cardinality, "kernel_size": conv[-1], "hidden": fc1[0]}

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixture of the blocks, ``(N, C, H, W)`` → ``(N, C, H, W)`` for a stride of 1."""
        pooled = self.stride > 1
        if pooled and self.pool_first:
            x = F.avg_pool2d(x, 3, self.stride, 1)
        u = F.relu(self.bn0(self.conv(x)))
        squeezed = ops.squeeze_space(u, ("avg",)).reshape(-1, self.radix, self.channels).sum(1)
        z = self.fc2(F.relu(self.bn1(self.fc1(squeezed[:, :, None, None]))))
        if self.radix == 1:
            weights = z.sigmoid()[:, None]
        else:
            size = (self.cardinality, self.radix, self.channels // self.cardinality)
            weights = z.flatten(1).unflatten(1, size).softmax(2).transpose(1, 2).flatten(2)[..., None, None]
        weights = weights.to(u.dtype)
        y = None
        for r, block in enumerate(torch.chunk(u, self.radix, 1)):
            weighted = block * weights[:, r]
            y = weighted if y is None else y + weighted
        assert y is not None
        return F.avg_pool2d(y, 3, self.stride, 1) if pooled and not self.pool_first else y

    def extra_repr(self) -> str:
        """Say the options."""
        return (
            f"{self.channels}, radix={self.radix}, cardinality={self.cardinality}, stride={self.stride}, "
            f"identity={self.identity}"
        )
