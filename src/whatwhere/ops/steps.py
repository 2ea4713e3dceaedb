"""How an attention makes its gates, described for the ops: what it squeezes, and how it makes gates from that."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn


class Dense(NamedTuple):
    """A channel step that is g(Σ over pools of W₂ ReLU(W₁ · + b₁) + b₂) times a factor."""

    first: nn.Linear
    second: nn.Linear
    gate: str
    factor: float


class Filter(NamedTuple):
    """A spatial step that is g(BN(conv(·))) times a factor."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    gate: str
    factor: float


class Step(NamedTuple):
    """One squeeze and the gate that is made from it.

    Attributes:
        kind: ``"channel"`` or ``"spatial"``.
        pools: names for :func:`squeeze_space` or :func:`squeeze_channels`.
        excite: channel: ``(N, P, C)`` → the gate ``(N, C, 1, 1)``; spatial: ``(N, P, H, W)`` → ``(N, 1, H, W)``.
        squeeze: the attention's own squeeze over channels, in place of ``pools``: a function of the map and the channel
            gate (or None).
        known: what ``excite`` computes, if a backend can compute that itself.
    """

    kind: str
    pools: tuple[str, ...]
    excite: Callable[[Tensor], Tensor]
    squeeze: Callable[[Tensor, Tensor | None], Tensor] | None = None
    known: Dense | Filter | None = None
