"""The block of ParNet, with skip-squeeze-excitation."""

from collections import OrderedDict
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from .attention import Attention
from .checks import check_choice, check_count, check_flag
from .key_map import KeyMap
from .mlp import ACTIVATIONS
from .norm import BatchNorm2d
from .registry import register

_CONVOLUTIONS = ("rbr_dense.conv", "rbr_dense.bn", "rbr_1x1.conv", "rbr_1x1.bn", "rbr_1x1.1.conv", "rbr_1x1.1.bn")
_PARTS = {part: part for part in ("rbr_identity", *_CONVOLUTIONS, "se.cvsig.conv")}


@register(
    "parnet",
    title="the block of ParNet, with skip-squeeze-excitation",
    paper="Non-deep Networks, NeurIPS 2022, arXiv 2110.07641",
    code="https://github.com/imankgoyal/NonDeepNetworks",
    formula="SiLU(BN(f₃ₓ₃(x)) + BN(f₁ₓ₁(x)) + i · σ(W avg(i))), i = BN(x)",
    kind="replacing",
    exact_identity=False,
    key_maps=(KeyMap("the official ParNet code", _PARTS),),
)
class ParNetAttention(Attention):
    r"""The block of ParNet: 3×3 and 1×1 convolutions beside a normalised map with a channel gate of its own.

    .. math::
        i &= BN(x) \\
        y &= SiLU\big(BN(f^{3 \times 3}(x)) + BN(f^{1 \times 1}(x)) + i \cdot \sigma(W\, avg(i))\big)

    With a stride s > 1 there is no map beside the convolutions, and the gate, up to 2, is that of x for their sum:

    .. math::
        y = SiLU\big((BN(f^{3 \times 3}_s(x)) + BN(f^{1 \times 1}(avg_{s \times s}(x)))) \cdot 2 \sigma(W\, avg(x))\big)

    Args:
        channels: C of the maps.
        stride: 1 for the block of a stream, 2 for the official block between streams.
        activation: ``silu`` as in ParNet, or ``relu``, ``gelu``, ``hard_swish``, ``relu6``.
        identity: without effect. The output of a SiLU cannot be any map that comes in.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; with a stride s ``(N, C, ceil(H/s), ceil(W/s))``.

    Paper:
        Non-deep Networks (arXiv 2110.07641), "skip-squeeze-excitation"; official code: imankgoyal/NonDeepNetworks,
        ``imagenet/timm/models/simplenet_impl/repvgg.py``, class ``RepVGGBlock``. ReLU is that class's own default, and
        the published configurations choose SiLU. No biases, PyTorch's initial values. Both convolutions and their
        normalisations make one 3×3 convolution after training.

    Deviations: with a stride the last averages of a side that it does not divide are over what is left, where the
    official code raises. A training batch with one value a channel takes the running statistics, where PyTorch's
    BatchNorm raises. The blocks that join two streams, with groups and a permutation of the channels, are not here.

    Copies: External-Attention-pytorch's ``ParNetAttention`` has the gate on x itself, without a normalisation, and
    biases everywhere.

    Raises:
        WhatwhereError: a number below 1, an unknown activation, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.ParNetAttention(64, stride=2)(torch.rand(2, 64, 7, 7)).shape
        torch.Size([2, 64, 4, 4])
    """

    def __init__(
        self,
        channels: int,
        *,
        stride: int = 1,
        activation: str = "silu",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.stride = check_count("stride", stride)
        self.activation = check_choice("activation", activation, ACTIVATIONS)
        self.identity = check_flag("identity", identity)
        factory = {"device": device, "dtype": dtype}
        self.rbr_identity = BatchNorm2d(channels, **factory) if stride == 1 else None
        self.rbr_dense = _conv_norm(channels, 3, stride, **factory)
        point = _conv_norm(channels, 1, 1, **factory)
        self.rbr_1x1 = point if stride == 1 else nn.Sequential(_Average(stride), point)
        gate = nn.Conv2d(channels, channels, 1, bias=False, **factory)
        self.se = nn.Sequential(OrderedDict(cvsig=nn.Sequential(OrderedDict(conv=gate, act=nn.Sigmoid()))))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, BatchNorm2d)):
                module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, ``(N, C, H, W)`` → ``(N, C, H, W)`` for a stride of 1."""
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        skip = x if self.rbr_identity is None else self.rbr_identity(x)
        gate = self.se(ops.squeeze_space(skip, ("avg",))[:, 0, :, None, None]).to(y.dtype)
        y = y * (2 * gate) if self.rbr_identity is None else y + skip.to(y.dtype) * gate
        return ACTIVATIONS[self.activation](y)

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, stride={self.stride}, activation={self.activation!r}, identity={self.identity}"


def _conv_norm(channels: int, kernel_size: int, stride: int, **factory: Any) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, kernel_size, stride, kernel_size // 2, bias=False, **factory)
    return nn.Sequential(OrderedDict(conv=conv, bn=BatchNorm2d(channels, **factory)))


class _Average(nn.Module):
    """Averages of s × s positions, at the ends of what is left.

    ``AvgPool2d(ceil_mode=True)`` computes the same, but ``torch.export`` cannot tell that its output has the size of a
    3×3 convolution's; of this one it can.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, C, ceil(H/s), ceil(W/s))``."""
        covered = self._pool(x.new_ones((1, 1, *x.shape[2:])))
        return self._pool(x) / covered

    def _pool(self, x: Tensor) -> Tensor:
        more = self.stride - 1
        return F.avg_pool2d(F.pad(x, (0, more, 0, more)), self.stride)
