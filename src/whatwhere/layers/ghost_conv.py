"""A convolution that computes only some of its maps; depthwise convolutions make the others from these."""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError
from .checks import check_odd


class GhostConv(nn.Module):
    r"""A convolution of which every ``ratio``-th map is computed, and the others by depthwise convolutions from these.

    With n output maps and :math:`m = \lceil n / ratio \rceil` primary ones,

    .. math:: p = f(x), \qquad y = [p,\; g(p)]_{order}

    f is a convolution with m outputs, g a depthwise one with ``ratio - 1`` maps for each of the m. Both are linear, and
    there is no batch normalisation between them. So this takes the place of any convolution: what follows it stays.

    Args:
        inputs: channels that come in.
        outputs: n, channels that go out.
        kernel_size: of f.
        ratio: how many maps there are for each primary one.
        cheap_kernel_size: side of g, odd.
        bias: whether f has a bias. g always has one, as its maps have another mean than those that it is made from.
        ordered: whether the maps come in another order than [p, g(p)], that of the buffer ``order``. One more copy of
            the map.
        device: where the parameters are made.
        dtype: of the parameters.
        options: ``stride``, ``padding``, ``dilation``, ``padding_mode`` of f, as of :class:`torch.nn.Conv2d`.

    Shapes:
        ``(N, inputs, H, W)`` → ``(N, outputs, H', W')`` as the convolution with these options gives.

    Paper:
        GhostNet, CVPR 2020, arXiv 1911.11907, equations 3 and 4; official code: huawei-noah/Efficient-AI-Backbones,
        ``ghostnet_pytorch/ghost_resnet.py``.

    Deviations: the official module for ResNet gives f a bias also where the convolution that it replaces has none, and
    keeps parameters and batch normalisations that it never uses. ``order`` is ours.

    Raises:
        WhatwhereError: a ratio below 2 or above ``outputs``, an even ``cheap_kernel_size``.

    Example:
        >>> conv = GhostConv(16, 31, 3, padding=1)
        >>> conv(torch.randn(2, 16, 8, 8)).shape
        torch.Size([2, 31, 8, 8])
        >>> conv.conv1.out_channels, conv.conv2.groups
        (16, 16)
    """

    order: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int | tuple[int, ...] = 1,
        ratio: int = 2,
        cheap_kernel_size: int = 3,
        bias: bool = False,
        ordered: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_ratio(ratio, outputs)
        check_odd("cheap_kernel_size", cheap_kernel_size)
        self.inputs, self.outputs, self.ratio = inputs, outputs, ratio
        primary = math.ceil(outputs / ratio)
        factory = {"device": device, "dtype": dtype}
        self.conv1 = nn.Conv2d(inputs, primary, kernel_size, bias=bias, **options, **factory)  # type: ignore[arg-type]
        self.conv2 = nn.Conv2d(
            primary,
            primary * (ratio - 1),
            cheap_kernel_size,
            padding=cheap_kernel_size // 2,
            groups=primary,
            **factory,
        )
        self.register_buffer("order", torch.arange(outputs, device=device) if ordered else None)

    @classmethod
    def like(
        cls,
        conv: nn.Conv2d,
        ratio: int,
        cheap_kernel_size: int = 3,
        *,
        ordered: bool = False,
        device: torch.device | None = None,
    ) -> Self:
        """Return one for the same maps as ``conv``, with new weights, on its device (or another) and in its dtype.

        Raises:
            WhatwhereError: a convolution in groups.
        """
        if conv.groups > 1:
            raise WhatwhereError(f"a convolution in {conv.groups} groups has no ghost convolution: it is cheap already")
        return cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            ratio,
            cheap_kernel_size,
            conv.bias is not None,
            ordered,
            device or conv.weight.device,
            conv.weight.dtype,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            padding_mode=conv.padding_mode,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return primary and cheap maps, ``(N, outputs, H', W')``."""
        primary = self.conv1(x)
        maps = torch.cat([primary, self.conv2(primary)], 1)
        if self.order is not None:
            return _select(maps, self.order)
        return maps if maps.shape[1] == self.outputs else maps[:, : self.outputs]

    def extra_repr(self) -> str:
        """Say the numbers of maps."""
        return f"{self.inputs}, {self.outputs}, ratio={self.ratio}, ordered={self.order is not None}"


def _select(maps: Tensor, order: Tensor) -> Tensor:
    """Return ``maps[:, order]``."""
    if torch.compiler.is_exporting():  # OpenVINO 2026.4 mixes up maps that a Gather gives a convolution
        flat = maps.flatten(2).index_select(1, order)
        return flat.reshape(maps.shape[0], len(order), *maps.shape[2:])
    if maps.stride(1) == 1 and maps.stride(3) != 1:  # channels last: PyTorch is 5 times as fast on two axes
        inner = maps.permute(0, 2, 3, 1)
        chosen = inner.flatten(0, 2).index_select(1, order)
        return chosen.view(*inner.shape[:3], len(order)).permute(0, 3, 1, 2)
    return maps.index_select(1, order)


def check_ratio(ratio: Any, outputs: int | None = None) -> None:
    """Raise unless ``ratio`` is a whole number from 2 up to ``outputs``."""
    if not isinstance(ratio, int) or isinstance(ratio, bool) or ratio < 2:
        raise WhatwhereError(f"ratio must be a whole number of at least 2, got {ratio!r}")
    if outputs is not None and ratio > outputs:
        raise WhatwhereError(f"ratio={ratio} is more than the {outputs} output maps: take a ratio of at most {outputs}")
