"""Means and variances over the positions of a map, in float32 at least."""

from typing import cast

import torch
from torch import Tensor

from ..ops.dtypes import accumulator


def wide(x: Tensor) -> Tensor:
    """Return a map in the dtype that sums over it are taken in: float16 and bfloat16 as float32."""
    return x.to(accumulator(x))


def degrees(x: Tensor) -> int:
    """Return H·W − 1, what an unbiased variance divides by; 1 for a map of one position, so that its variance is 0."""
    return cast(int, torch.sym_max(x.shape[2] * x.shape[3] - 1, 1))  # symbolic while a graph is captured


def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the unbiased variance of each channel of a wide map, both ``(N, C, 1, 1)``.

    The variance of one position is 0.

    Example:
        >>> mean, variance = mean_and_variance(torch.tensor([1.0, 3.0]).view(1, 1, 1, 2))
        >>> mean.item(), variance.item()
        (2.0, 2.0)
    """
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return mean, variance * (x.shape[2] * x.shape[3] / degrees(x))


def root(variance: Tensor) -> Tensor:
    """Return the square root, with a gradient of 0 at 0 (as that of :func:`torch.std`)."""
    positive = variance > 0
    return torch.where(positive, torch.where(positive, variance, 1).sqrt(), variance)
