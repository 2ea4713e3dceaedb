"""The gate functions."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from ..errors import WhatwhereError, closest


def hard_sigmoid(z: Tensor) -> Tensor:
    """Return ReLU6(z + 3)/6. ``F.hardsigmoid`` has 1/6 in float32 in its gradient, for float64 too.

    Example:
        >>> import torch
        >>> hard_sigmoid(torch.tensor([-4.0, -3.0, 0.0, 1.5, 3.0]))
        tensor([0.0000, 0.0000, 0.5000, 0.7500, 1.0000])
    """
    return F.relu6(z + 3) / 6


GATES: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": F.sigmoid, "hard_sigmoid": hard_sigmoid}
"""``sigmoid`` is 1/(1 + exp(-z)), ``hard_sigmoid`` ReLU6(z + 3)/6 (MobileNetV3, GhostNet). At z = 0 both are 1/2."""


def check_gate(gate: str) -> str:
    """Return ``gate`` if it is known, or raise."""
    if gate not in GATES:
        raise WhatwhereError(f"unknown gate {gate!r}: one of {', '.join(GATES)}{closest(str(gate), GATES)}")
    return gate


def apply_gate(z: Tensor, gate: str, identity: bool) -> Tensor:
    """Return the gate of ``z``: g(z) in (0, 1), or for ``identity`` 2·g(z) in (0, 2), which is exactly 1 at z = 0."""
    g = GATES[gate](z)
    return gate_factor(identity) * g if identity else g


def gate_factor(identity: bool) -> float:
    """Return what :func:`apply_gate` multiplies the gate function by."""
    return 2.0 if identity else 1.0
