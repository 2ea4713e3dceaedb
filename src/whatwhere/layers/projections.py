"""What position attention and criss-cross attention share: queries, keys and values of a map, and a scale of 0."""

from typing import Any

import torch
from torch import Tensor, nn

from .attention import Attention
from .checks import check_flag, hidden_width
from .key_map import Shapes

PROJECTIONS = ("query_conv", "key_conv", "value_conv")


def add_scaled(x: Tensor, gamma: Tensor, added: Tensor) -> Tensor:
    """Return x + γ · added in the dtype and the memory format of x."""
    return x + (gamma * added).to(x.dtype)


def reduction_of_query(shapes: Shapes) -> dict[str, Any]:
    """Return ``{"reduction": r}`` for the shape of ``query_conv.weight``; {} where there is none."""
    hidden, channels = shapes.get("query_conv.weight", (0, 0))[:2]
    if hidden < 1:
        return {}
    return {"reduction": 8 if hidden_width(channels, 8) == hidden else max(1, channels // hidden)}


class ProjectedAttention(Attention):
    """Base of attentions that add γ times means of values, weighted by queries and keys: 1×1 convolutions with biases.

    γ starts at 0, so ``identity`` changes nothing.
    """

    def __init__(self, channels: int, *, reduction: int, identity: bool, device: Any, dtype: Any) -> None:
        super().__init__(channels)
        self.hidden = hidden_width(channels, reduction)
        self.identity = check_flag("identity", identity)
        factory = {"device": device, "dtype": dtype}
        self.query_conv = nn.Conv2d(channels, self.hidden, 1, **factory)
        self.key_conv = nn.Conv2d(channels, self.hidden, 1, **factory)
        self.value_conv = nn.Conv2d(channels, channels, 1, **factory)
        self.gamma = nn.Parameter(torch.zeros(1, **factory))

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for conv in (self.query_conv, self.key_conv, self.value_conv):
            conv.reset_parameters()
        nn.init.zeros_(self.gamma)

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``reduction``."""
        return reduction_of_query(shapes)

    def settings(self) -> dict[str, Any]:
        """Return the value of every option but ``identity``, which changes nothing."""
        return {key: value for key, value in super().settings().items() if key != "identity"}

    @property
    def idle_parameters(self) -> tuple[str, ...]:
        """The bias of the keys."""
        return ("key_conv.bias",)
