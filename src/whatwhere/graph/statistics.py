"""The running statistics of batch normalisations."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def has_statistics(module: nn.Module) -> bool:
    """Whether a module is a batch normalisation that keeps running statistics.

    Example:
        >>> import torch
        >>> has_statistics(torch.nn.BatchNorm2d(8)), has_statistics(torch.nn.GroupNorm(2, 8))
        (True, False)
    """
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None


def renew_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Let the batch normalisations of a model in evaluation mode take their running statistics anew from some batches,
    each of which counts the same.

    Example:
        >>> import torch
        >>> norm = torch.nn.BatchNorm2d(3).eval()
        >>> renew_statistics(norm, [torch.ones(2, 3, 4, 4), 3 * torch.ones(2, 3, 4, 4)])
        >>> norm.running_mean.tolist(), norm.training
        ([2.0, 2.0, 2.0], False)
    """
    norms: list[Any] = [module for module in model.modules() if has_statistics(module)]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum, norm.training = None, True  # None: each batch counts the same
        with torch.no_grad():
            for images in batches:
                model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum, norm.training = momentum, False
