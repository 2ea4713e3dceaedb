"""Parameters and multiply-adds, counted."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import ops
from ..graph.guard import evaluation_mode


def count_parameters(module: nn.Module) -> int:
    """Return how many parameters a module has.

    Example:
        >>> import torch
        >>> from whatwhere.cost import count_parameters
        >>> count_parameters(torch.nn.Conv2d(3, 8, 3))
        224
    """
    return sum(p.numel() for p in module.parameters())


def count_multiply_adds(module: nn.Module, shape: tuple[int, int, int]) -> int:
    """Return the multiply-adds of convolutions and matrix products for one input of ``shape`` (C, H, W), as torch
    counts them.

    The module runs once on zeros in evaluation mode and is left as it was.

    Example:
        >>> import torch
        >>> from whatwhere.cost import count_multiply_adds
        >>> count_multiply_adds(torch.nn.Conv2d(3, 8, 3, padding=1), (3, 10, 10)) == 3 * 8 * 9 * 10 * 10
        True
    """
    like = next(module.parameters(), torch.empty(0))
    with evaluation_mode(module), torch.no_grad(), ops.backend("reference"), counting() as counted:
        module(torch.zeros(1, *shape, device=like.device, dtype=like.dtype))
    return counted()


@contextlib.contextmanager
def counting() -> Iterator[Callable[[], int]]:
    """Count multiply-adds inside a ``with`` block; call what ``with`` returns for their number.

    Inside it scaled dot products of transformers run as matrix products, because torch's counter does not know every
    fused kernel.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports Triton

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield lambda: int(counter.get_total_flops()) // 2
