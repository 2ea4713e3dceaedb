"""What a trained squeeze-and-excitation hands over to another attention."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import ops
from .gate import apply_gate
from .mlp import ACTIVATIONS, MLP


@dataclass(frozen=True)
class Excitation:
    """The two dense layers between the squeeze and the channel gate of any squeeze-and-excitation.

    Attributes:
        channels: C of the maps.
        hidden: width between the layers.
        activation: between the layers, a name of :data:`whatwhere.layers.mlp.ACTIVATIONS`.
        gate: the gate function, a name of :data:`whatwhere.layers.gate.GATES`.
        identity: whether the gate is 2·g(z), as with ``identity=True``, rather than g(z).
        pools: the squeezes, whose results are summed after the second layer.
        first: weight ``(hidden, C)`` and bias, or None.
        second: weight ``(C, hidden)`` and bias, or None.
    """

    channels: int
    hidden: int
    activation: str
    gate: str
    identity: bool
    pools: tuple[str, ...]
    first: tuple[Tensor, Tensor | None]
    second: tuple[Tensor, Tensor | None]

    @property
    def bias(self) -> bool:
        """Whether either layer has a bias."""
        return self.first[1] is not None or self.second[1] is not None

    def gates(self, x: Tensor) -> Tensor:
        """Return the channel gate ``(N, C, 1, 1)`` for a map ``(N, C, H, W)``."""
        hidden = ACTIVATIONS[self.activation](F.linear(ops.squeeze_space(x, self.pools), *self.first))
        return apply_gate(F.linear(hidden, *self.second).sum(1)[:, :, None, None], self.gate, self.identity)

    def write(self, mlp: MLP) -> bool:
        """Copy the weights into an MLP; return False, and change nothing, where they do not fit."""
        pairs = ((mlp.fc1, *self.first), (mlp.fc2, *self.second))
        if any(
            layer.weight.shape != weight.shape or (b is not None and layer.bias is None) for layer, weight, b in pairs
        ):
            return False
        with torch.no_grad():
            for layer, weight, bias in pairs:
                layer.weight.copy_(weight)
                if layer.bias is not None:
                    layer.bias.zero_() if bias is None else layer.bias.copy_(bias)
        return True
