"""Attention without gradients on a CPU: which attentions a backend can run as a whole, and with what arguments."""

import torch
from torch import Tensor, nn

from . import moves
from .dtypes import accumulator
from .norm import Normal
from .steps import Dense, Filter, Step

_GATES = {"sigmoid": 0, "hard_sigmoid": 1}


def serves(x: Tensor, what: Step | None, where: Step | None) -> bool:
    """Whether the whole of an attention can be done image by image: plain weighings, running statistics, enough images
    for the threads.
    """
    if torch.is_grad_enabled() or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    n, _, h, w = x.shape
    if n < (2 if torch.compiler.is_compiling() else torch.get_num_threads()):
        return False
    if what is not None:
        known = what.known
        if not isinstance(known, Dense) or "lp" in what.pools or not (_plain(known.first) and _plain(known.second)):
            return False
        if 2 * known.first.out_features > h * w:  # the weights, read for every image, would be more than the map
            return False
    if where is not None:
        known = where.known
        if not isinstance(known, Filter) or not (_plain(known.conv) and _plain(known.norm)):
            return False
        if known.norm.training or known.norm.running_mean is None:
            return False
    return what is not None or where is not None


def glance(
    x: Tensor, what: Step | None, where: Step | None, normal: Normal | None, residual: Tensor | None, relu: bool
) -> Tensor:
    """Return relu(attention(a·x + b) + residual)."""
    small = accumulator(x)
    dense: list[Tensor | None] = []
    convolution: list[Tensor] = []
    channel, spatial, factors = [0, 0, 0], [0, 0, 0, 0], [1.0, 1.0]
    if what is not None:
        known = what.known
        assert isinstance(known, Dense)
        parts = (known.first.weight, known.first.bias, known.second.weight, known.second.bias)
        dense = [None if t is None else t.to(small) for t in parts]
        channel, factors[0] = [int("avg" not in what.pools), len(what.pools), _GATES[known.gate]], known.factor
    if where is not None:
        known = where.known
        assert isinstance(known, Filter)
        norm = known.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        slope = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        affine = torch.cat([slope, norm.bias - norm.running_mean * slope]).to(small)
        convolution = [known.conv.weight.to(small), affine]
        turn = where.pools == ("avg", "max")
        spatial = [int(where.pools == ("avg",)), len(where.pools), int(turn), _GATES[known.gate]]
        factors[1] = known.factor
    a, b = (None, None) if normal is None else (normal.scale, normal.bias)
    return moves.glance(x, a, b, dense, channel, convolution, spatial, factors, residual, relu)


def _plain(module: nn.Module) -> bool:
    """Whether a module is nothing but its class: no hooks, no replaced forward, no parametrisation."""
    kinds = (nn.Linear, nn.Conv2d, nn.BatchNorm2d)
    known = type(module) in kinds or (
        isinstance(module, nn.BatchNorm2d) and type(module).__module__.startswith("whatwhere.")
    )
    return known and not module._forward_hooks and not module._forward_pre_hooks and "forward" not in module.__dict__
