"""The definition of every op in plain PyTorch: the truth that faster backends are tested against."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

SPACE_POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "avg": lambda rows: rows.mean(-1),
    "max": lambda rows: rows.max(-1).values,
    "lp": lambda rows: torch.linalg.vector_norm(rows, ord=2, dim=-1),
    "lse": lambda rows: torch.logsumexp(rows, dim=-1),
}
"""What :func:`squeeze_space` knows, each a function of ``(N, C, H*W)`` that gives ``(N, C)``."""

CHANNEL_POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "avg": lambda x: x.mean(1),
    "max": lambda x: x.max(1).values,
}
"""What :func:`squeeze_channels` knows, each a function of ``(N, C, H, W)`` that gives ``(N, H, W)``."""


def squeeze_space(x: Tensor, pools: Sequence[str], spatial: Tensor | None = None) -> Tensor:
    r"""Squeeze every channel of a map to one number per pool.

    With :math:`u = x \cdot spatial` and the sum over the :math:`H \cdot W` positions of a channel:

    - ``avg``: :math:`\frac{1}{HW}\sum u`
    - ``max``: :math:`\max u`; in a tie the gradient goes to one position only, as in the official CBAM code
    - ``lp``: :math:`\sqrt{\sum u^2}`; its gradient at 0 is 0 (``F.lp_pool2d`` of the official code gives NaN there)
    - ``lse``: :math:`\log\sum e^u`

    Args:
        x: map, ``(N, C, H, W)``, any floating dtype and memory format; H and W at least 1, N may be 0.
        pools: names out of ``avg``, ``max``, ``lp``, ``lse``, in the order of the result.
        spatial: optional gate ``(N, 1, H, W)`` that the map is multiplied by before it is squeezed.

    Returns:
        ``(N, P, C)`` in the dtype of ``x``, with P the number of pools.
    """
    rows = _gated(x, spatial).flatten(2)
    return torch.stack([SPACE_POOLS[pool](rows) for pool in pools], 1)


def squeeze_channels(x: Tensor, pools: Sequence[str], channel: Tensor | None = None) -> Tensor:
    r"""Squeeze every position of a map to one number per pool, over :math:`u = x \cdot channel`.

    Args:
        x: map, ``(N, C, H, W)``, any floating dtype and memory format; C at least 1, N may be 0.
        pools: names out of ``avg``, ``max``, in the order of the result (the official CBAM code stacks max, avg).
        channel: optional gate ``(N, C, 1, 1)`` that the map is multiplied by before it is squeezed.

    Returns:
        ``(N, P, H, W)`` in the dtype of ``x``, with P the number of pools.
    """
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
    r"""Multiply a map by its gates: :math:`y = relu(x \cdot channel \cdot spatial \cdot full + residual)`.

    Args:
        x: map, ``(N, C, H, W)``.
        channel: gate ``(N, C, 1, 1)`` or None.
        spatial: gate ``(N, 1, H, W)`` or None.
        full: gate ``(N, C, H, W)`` or None.
        residual: map like ``x`` that is added after the gates, or None.
        relu: whether negative results become 0.

    Returns:
        ``(N, C, H, W)`` in the dtype of ``x`` (gates of another dtype are converted to it).
    """
    for gate in (channel, spatial, full):
        x = _gated(x, gate)
    if residual is not None:
        x = x + residual
    return torch.relu(x) if relu else x


def _gated(x: Tensor, gate: Tensor | None) -> Tensor:
    return x if gate is None else x * gate.to(x.dtype)
