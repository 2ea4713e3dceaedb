"""Normalisations that also work where there are too few values to have statistics."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm1d(nn.BatchNorm1d):
    """:class:`torch.nn.BatchNorm1d` that takes its running statistics where a training batch has fewer than two values.

    PyTorch raises for one value per channel, and turns the running statistics into NaN for none.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(N, C)``."""
        return _steady(self, x) if _too_few(self, x) else super().forward(x)


class BatchNorm2d(nn.BatchNorm2d):
    """The same for maps: running statistics where a training batch has fewer than two values."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)``."""
        return _steady(self, x) if _too_few(self, x) else super().forward(x)


class GroupNorm(nn.GroupNorm):
    """:class:`torch.nn.GroupNorm` that also takes one map with one value a group, which becomes the bias.

    PyTorch returns the bias for several such maps, and raises for one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(N, C, …)``."""
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def _too_few(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> bool:
    return norm.training and x.numel() < 2 * norm.num_features


def _steady(norm: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
