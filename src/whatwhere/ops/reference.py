"""The definition of every op in plain PyTorch. Faster backends are tested against it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SPACE_POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "avg": lambda rows: rows.mean(-1),
    "max": lambda rows: rows.max(-1).values,
    "lp": lambda rows: torch.linalg.vector_norm(rows, ord=2, dim=-1),
    "lse": lambda rows: torch.logsumexp(rows, dim=-1),
}
"""The pools of :func:`squeeze_space`, each a function of ``(N, C, H*W)`` that gives ``(N, C)``."""

CHANNEL_POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "avg": lambda x: x.mean(1),
    "max": lambda x: x.max(1).values,
}
"""The pools of :func:`squeeze_channels`, each a function of ``(N, C, H, W)`` that gives ``(N, H, W)``."""


def squeeze_space(x: Tensor, pools: Sequence[str], spatial: Tensor | None = None) -> Tensor:
    """Compute :func:`whatwhere.ops.squeeze_space`; its docstring has the formula and the shapes."""
    rows = _gated(x, spatial).flatten(2)
    return torch.stack([SPACE_POOLS[pool](rows) for pool in pools], 1)


def squeeze_channels(x: Tensor, pools: Sequence[str], channel: Tensor | None = None) -> Tensor:
    """Compute :func:`whatwhere.ops.squeeze_channels`; its docstring has the formula and the shapes."""
    gated = _gated(x, channel)
    return torch.stack([CHANNEL_POOLS[pool](gated) for pool in pools], 1)


def apply_gates(
    x: Tensor,
    channel: Tensor | None = None,
    spatial: Tensor | None = None,
    full: Tensor | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Compute :func:`whatwhere.ops.apply_gates`; its docstring has the formula and the shapes."""
    for gate in (channel, spatial, full):
        x = _gated(x, gate)
    if residual is not None:
        x = x + residual.to(x.dtype)
    return torch.relu(x) if relu else x


def _gated(x: Tensor, gate: Tensor | None) -> Tensor:
    return x if gate is None else x * gate.to(x.dtype)
