"""The moves of a backend written out in plain PyTorch, for any dtype: what every backend's kernels are compared with.

Notation: w = x - shift per channel, v = w · scale + bias per image and channel, u = v · spatial per place. What is None
is left out.
"""

import torch
import torch.nn.functional as F


def _channel(t):
    """Per channel, ``(C)`` or ``(N, C)`` → something that multiplies a map."""
    return t.reshape(1 if t.dim() == 1 else t.shape[0], t.shape[-1], 1, 1)


def _shifted(x, shift):
    return x if shift is None else x - _channel(shift)


def _scaled(w, scale, bias):
    v = w if scale is None else w * _channel(scale)
    return v if bias is None else v + _channel(bias)


def squeeze_space(x, shift, sign, kinds, peaks):
    """(N, kinds, C): mean of w, w where sign·w is greatest (0 without peaks), mean of w²; and that place in H·W, (N,
    C), or an empty (0, C).

    The first place in a tie, the first NaN.
    """
    n, c = x.shape[:2]
    w = _shifted(x, shift).flatten(2)
    peak, spots = x.new_zeros(n, c), x.new_zeros(0, c)
    if peaks:
        place = (w if sign is None else w * sign[:, None]).max(2).indices
        peak, spots = w.gather(2, place[:, :, None])[:, :, 0], place.to(x.dtype)
    return torch.stack([w.mean(2), peak, w.square().mean(2)][:kinds], 1), spots


def squeeze_channels(x, shift, scale, bias):
    """(N, 2, H, W): greatest v over the channels, mean of v; and the channel of the greatest, (N, H, W): the first in a
    tie, the first NaN.
    """
    v = _scaled(_shifted(x, shift), scale, bias)
    top, channel = v.max(1)
    return torch.stack([top, v.mean(1)], 1), channel.to(x.dtype)


def apply_gates(x, shift, scale, bias, spatial, residual, relu):
    """(N, C, H, W): relu(v · spatial + residual)."""
    y = _scaled(_shifted(x, shift), scale, bias)
    y = y if spatial is None else y * spatial
    y = y if residual is None else y + residual
    return y.relu() if relu else y


def apply_gates_backward(g, x, y, shift, scale, bias, spatial):
    """From g, the gradient of y: (g where y > 0, or an empty tensor without y; (N, 2, C): Σ g·spatial·w, Σ g·spatial;
    Σ_c g·v or empty).
    """
    w = _shifted(x, shift)
    empty = x.new_empty(0)
    masked = empty
    if y is not None:
        g = masked = torch.where(y <= 0, torch.zeros_like(g), g)
    gs = g if spatial is None else g * spatial
    sums = torch.stack([(gs * w).sum((2, 3)), gs.sum((2, 3))], 1)  # the second counts only where there is a bias
    place = empty if spatial is None else (g * _scaled(w, scale, bias)).sum(1, keepdim=True)
    return masked, sums, place


def _dense_lines(lines, channels, c):
    """From (N, 2, H, W) [d max, d mean] and the channels (N, H, W) the gradient of v that the squeeze over channels
    gives, (N, C, H, W).
    """
    hit = torch.arange(c, device=lines.device)[None, :, None, None] == channels[:, None].long()
    return lines[:, None, 1] / c + torch.where(hit, lines[:, None, 0], 0)


def squeeze_channels_backward(x, shift, lines, channels):
    """(N, 2, C): Σ dv·w and Σ dv over the places, with dv the gradient that the squeeze over channels gives."""
    dv = _dense_lines(lines, channels, x.shape[1])
    return torch.stack([(dv * _shifted(x, shift)).sum((2, 3)), dv.sum((2, 3))], 1)


def gather(like, g, shift, scale, spatial, lines, channels, points, spots):
    """The gradient of x, in its dtype: scale·(g·spatial + dv) + [from the squeeze over space].

    ``lines``: (N, 2, H, W) [d max, d mean] with ``channels`` (N, H, W); ``points``: (N, kinds, C) [d mean, d max, d
    mean of squares] with ``spots`` (N, C) or None. ``like`` is x; its values are only read where kinds is 3.
    """
    c, h, width = like.shape[1:]
    out = torch.zeros_like(like)
    if g is not None:
        out = out + (g if spatial is None else g * spatial)
    if lines is not None:
        out = out + _dense_lines(lines, channels, c)
    if scale is not None:
        out = out * _channel(scale)
    if points is not None:
        out = out + points[:, 0, :, None, None] / (h * width)
        if spots is not None:
            hit = torch.arange(h * width, device=like.device).view(1, 1, h, width) == spots[:, :, None, None].long()
            out = out + torch.where(hit, points[:, 1, :, None, None], 0)
        if points.shape[1] == 3:
            out = out + 2 * points[:, 2, :, None, None] / (h * width) * _shifted(like, shift)
    return out


def filter_maps(maps, weight):
    """The convolution of few maps that keeps their size, without bias."""
    return F.conv2d(maps, weight, padding=weight.shape[-1] // 2)


def filter_maps_backward(g, maps, weight):
    """The gradients of maps and weight."""
    with torch.enable_grad():
        leaves = maps.detach().requires_grad_(), weight.detach().requires_grad_()
        return torch.autograd.grad(filter_maps(*leaves), leaves, g)
