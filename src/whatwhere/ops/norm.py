"""Batch normalisation as numbers per channel, u = (x - shift) · scale + bias, so that it needs no pass over the map of
its own.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import moves
from .dtypes import accumulator
from .moves import Thread


class Normal(NamedTuple):
    """A batch normalisation as three vectors ``(C)``; the shift has no gradient."""

    shift: Tensor | None
    scale: Tensor
    bias: Tensor

    def spread(self, n: int) -> tuple[Tensor, Tensor]:
        """Return scale and bias as ``(N, C)``."""
        return self.scale.expand(n, -1).contiguous(), self.bias.expand(n, -1).contiguous()

    @staticmethod
    def serves(norm: nn.BatchNorm2d, x: Tensor) -> bool:
        """Whether a norm can be written like this: not if it needs statistics of a batch with one value a channel."""
        return isinstance(norm, nn.BatchNorm2d) and (not takes_statistics(norm) or x.numel() > norm.num_features)


def normalise(norm: nn.BatchNorm2d, x: Tensor, kinds: int, peaks: bool) -> tuple[Normal, Tensor | None, Thread]:
    """Return the normalisation of a map, what the squeeze over space found, and the map's thread.

    In training the mean and the variance are those of the batch, from sums of w and w² with w = x - shift, where the
    shift is the channel's first
    value: it lies among the values, so the difference of the sums does not cancel even where the mean is large.

    Args:
        norm: the module; its running statistics are updated as its own forward would.
        x: map, ``(N, C, H, W)``.
        kinds: how many of mean, peak and mean square of u the attention asks for.
        peaks: whether it asks for the greatest values of u.
    """
    small = accumulator(x)
    weight = None if norm.weight is None else norm.weight.to(small)
    offset = None if norm.bias is None else norm.bias.to(small)
    sign = None if weight is None or not peaks else weight.detach().sign()
    if takes_statistics(norm):
        shift = x.detach()[0, :, 0, 0].to(small, copy=True)
        thread = moves.open_map(x, shift, 3)
        found = moves.squeeze_space(x, shift, sign, 3, peaks, thread)
        mean, _, square = found.mean(0).unbind(0)
        variance = torch.clamp_min(square - mean * mean, 0)
        _keep_up(norm, mean.detach() + shift, variance.detach(), x.numel() // x.shape[1])
        scale = torch.rsqrt(variance + norm.eps)
        scale = scale if weight is None else scale * weight
        bias = -mean * scale if offset is None else offset - mean * scale
        return Normal(shift, scale, bias), found, thread
    assert norm.running_mean is not None
    assert norm.running_var is not None
    thread = moves.open_map(x, None, kinds)
    stats = moves.squeeze_space(x, None, sign, kinds, peaks, thread) if kinds else None
    scale = torch.rsqrt(norm.running_var.to(small) + norm.eps)
    scale = scale if weight is None else scale * weight
    bias = -norm.running_mean.to(small) * scale
    return Normal(None, scale, bias if offset is None else bias + offset), stats, thread


def takes_statistics(norm: nn.BatchNorm2d) -> bool:
    """Whether a normalisation takes its mean and variance from the batch."""
    return norm.training or norm.running_mean is None or norm.running_var is None


@torch.no_grad()
def _keep_up(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update the running statistics as :class:`torch.nn.BatchNorm2d` does in training."""
    if not (norm.training and norm.track_running_stats) or norm.running_mean is None or norm.running_var is None:
        return
    momentum = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)
    assert momentum is not None
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var.dtype), momentum)
