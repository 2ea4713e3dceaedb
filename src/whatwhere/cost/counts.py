"""Parameters and multiply-adds, counted."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import ops
from ..graph.guard import evaluation_mode


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers a module learns."""
    return sum(p.numel() for p in module.parameters())


def count_multiply_adds(module: nn.Module, shape: tuple[int, int, int]) -> int:
    """Return the multiply-adds of convolutions and matrix products for one input of ``shape`` (C, H, W), as torch counts them.

    The module runs once on zeros in evaluation mode and is left as it was.
    """
    like = next(module.parameters(), torch.empty(0))
    with evaluation_mode(module), torch.no_grad(), ops.backend("reference"), counting() as counted:
        module(torch.zeros(1, *shape, device=like.device, dtype=like.dtype))
    return counted()


@contextlib.contextmanager
def counting() -> Iterator[Callable[[], int]]:
    """Count multiply-adds inside a ``with`` block: what is given returns how many there were.

    Scaled dot products of transformers run as matrix products meanwhile, for not every fused kernel is known to torch's counter.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports Triton

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield lambda: int(counter.get_total_flops()) // 2
