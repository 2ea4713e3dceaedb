"""The small network between the squeeze and the gate of a channel attention."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .checks import hidden_width


class MLP(nn.Module):
    r"""Two dense layers, :math:`W_2\, ReLU(W_1 z + b_1) + b_2`, C → max(1, C // reduction) → C, over the last axis.

    Weights start as in :class:`torch.nn.Linear`, biases at 0 (as the official CBAM code sets them); ``zero=True`` starts the
    last layer at 0, so that the result is 0 and its gradient reaches that layer at the first step.
    """

    def __init__(self, channels: int, reduction: int, *, bias: bool = True, zero: bool = False, **factory: Any) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction)
        self.zero = zero
        self.fc1 = nn.Linear(channels, hidden, bias=bias, **factory)
        self.fc2 = nn.Linear(hidden, channels, bias=bias, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for layer in (self.fc1, self.fc2):
            layer.reset_parameters()
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if self.zero:
            nn.init.zeros_(self.fc2.weight)

    def forward(self, z: Tensor) -> Tensor:
        """Map ``(…, C)`` to ``(…, C)``."""
        out: Tensor = self.fc2(F.relu(self.fc1(z)))
        return out
