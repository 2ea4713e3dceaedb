"""The forward moves in plain PyTorch, which autograd can differentiate any number of times."""

import torch
from torch import Tensor


def shifted(x: Tensor, shift: Tensor | None) -> Tensor:
    """Return w = x - shift, in the type of the shift."""
    return x if shift is None else x - shift[:, None, None]


def scaled(x: Tensor, shift: Tensor | None, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    """Return v = (x - shift) · scale + bias."""
    v = shifted(x, shift)
    v = v if scale is None else v * scale[:, :, None, None]
    return v if bias is None else v + bias[:, :, None, None]


def squeeze_space(x: Tensor, shift: Tensor | None, spots: Tensor | None, kinds: int) -> Tensor:
    """Return (N, kinds, C): mean of w, w at the positions (N, C) of the peaks, mean of w²."""
    w = shifted(x, shift).flatten(2)
    mean = w.mean(2)
    peaks = torch.zeros_like(mean) if spots is None else w.gather(2, spots[:, :, None].long())[:, :, 0]
    return torch.stack([mean, peaks, w.square().mean(2)][:kinds], 1)


def squeeze_channels(
    x: Tensor, shift: Tensor | None, scale: Tensor | None, bias: Tensor | None, channels: Tensor
) -> Tensor:
    """Return (N, 2, H, W): v at the channels (N, H, W) of the peaks, mean of v."""
    v = scaled(x, shift, scale, bias)
    return torch.stack([v.gather(1, channels[:, None].long())[:, 0], v.mean(1)], 1)


def apply_gates(
    x: Tensor,
    shift: Tensor | None,
    scale: Tensor | None,
    bias: Tensor | None,
    spatial: Tensor | None,
    residual: Tensor | None,
    relu: bool,
) -> Tensor:
    """Return relu(v · spatial + residual) in the dtype of ``x``."""
    y = scaled(x, shift, scale, bias)
    y = (y if spatial is None else y * spatial).to(x.dtype)
    y = y if residual is None else y + residual
    return torch.relu(y) if relu else y
