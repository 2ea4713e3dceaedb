"""The small network between the squeeze and the gate of a channel attention."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .checks import check_choice, hidden_width

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
    "hard_swish": F.hardswish,
    "relu6": F.relu6,
}
"""Between the two layers: ``relu`` in the papers, ``silu`` in EfficientNet, ``hard_swish`` near MobileNetV3."""


def reduction_from(shape: tuple[int, ...] | None) -> dict[str, Any]:
    """Return ``{"reduction": r}`` for the shape ``(hidden, C)`` of a first layer; {} where there is none.

    Where no r gives that width, the width itself is returned: ``{"hidden": hidden}``.
    """
    if shape is None or len(shape) != 2 or min(shape) < 1:
        return {}
    hidden, channels = shape
    reduction = 16 if channels // 16 == hidden else max(1, channels // hidden)
    return {"reduction": reduction} if max(1, channels // reduction) == hidden else {"hidden": hidden}


class MLP(nn.Module):
    r"""Two dense layers over the last axis, :math:`W_2\, act(W_1 z + b_1) + b_2`, C → hidden → C.

    The hidden width is max(1, C // reduction) if it is not given.

    Weights start as in :class:`torch.nn.Linear`, biases at 0 (as the official CBAM code sets them); ``zero=True``
    starts the last layer at 0, so that the result is 0 and its gradient reaches that layer at the first step.
    """

    def __init__(
        self,
        channels: int,
        reduction: int,
        *,
        hidden: int | None = None,
        activation: str = "relu",
        bias: bool = True,
        zero: bool = False,
        **factory: Any,
    ) -> None:
        super().__init__()
        width = hidden_width(channels, reduction, hidden)
        self.zero = zero
        self.activation = check_choice("activation", activation, ACTIVATIONS)
        self.fc1 = nn.Linear(channels, width, bias=bias, **factory)
        self.fc2 = nn.Linear(width, channels, bias=bias, **factory)
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
        out: Tensor = self.fc2(ACTIVATIONS[self.activation](self.fc1(z)))
        return out
