"""Weighted means over positions or channels, the weights a softmax of dot products."""

import torch.nn.functional as F
from torch import Tensor


def positions(u: Tensor) -> Tensor:
    """Return a map ``(N, C, H, W)`` as rows, one for each position, ``(N, HW, C)``."""
    return u.flatten(2).mT


def as_map(rows: Tensor, like: Tensor) -> Tensor:
    """Return rows, one for each position, ``(N, HW, C)``, as a map ``(N, C, H, W)`` with H and W of ``like``."""
    return rows.mT.reshape(rows.shape[0], rows.shape[2], *like.shape[2:])


def weighted_means(query: Tensor, key: Tensor, value: Tensor, scale: float = 1.0) -> Tensor:
    """Return softmax(scale · query · keyᵀ) · value, the softmax over the keys.

    Where PyTorch has a fused kernel for these sizes, the weights are never stored. Dot products of half precision are
    summed in float32.

    Args:
        query: rows ``(N, Q, D)``.
        key: rows ``(N, K, D)``.
        value: rows ``(N, K, E)``.
        scale: of the dot products.

    Returns:
        ``(N, Q, E)``.
    """
    q, k, v = (rows.contiguous().unsqueeze(1) for rows in (query, key, value))  # the kernels need whole rows
    return F.scaled_dot_product_attention(q, k, v, scale=scale).squeeze(1)
