"""How a captioner attends to the maps of its encoder: the kinds, by name."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...layers.sca import SCA


class Kind(NamedTuple):
    """One kind of attention of a captioner.

    Attributes:
        title: what it is, in words.
        make: builds it from the channels of a map, the length of the state, and the length inside tanh; None where
            there is no attention.
        gated: whether what has been attended to is scaled by a number from 0 to 1 that the state gives.
        several: whether it may attend to several maps.
    """

    title: str
    make: Callable[[int, int, int], SCA] | None
    gated: bool = False
    several: bool = True


def _sca(channel: bool, spatial: bool, order: str = "channel-spatial") -> Callable[[int, int, int], SCA]:
    return lambda channels, state, inner: SCA(channels, state, inner, order, channel, spatial)


KINDS: dict[str, Kind] = {
    "none": Kind("no attention: the pooled map for every word", None, several=False),
    "soft": Kind(
        "soft attention, the gated form of Show, Attend and Tell", _sca(False, True), gated=True, several=False
    ),
    "s": Kind("spatial attention of SCA-CNN", _sca(False, True)),
    "c": Kind("channel attention of SCA-CNN", _sca(True, False)),
    "s-c": Kind("SCA-CNN, first spatial then channel attention", _sca(True, True, "spatial-channel")),
    "c-s": Kind("SCA-CNN, first channel then spatial attention", _sca(True, True)),
}
"""The kinds of attention of a captioner, by name."""


class ContextGate(nn.Module):
    r"""The scalar gate of soft attention, :math:`\sigma(w \cdot h + b)` (Show, Attend and Tell, section 4.2.1).

    Args:
        state_dim: length of the state.

    Shapes:
        context ``(N, R, C)`` and states ``(N, R, D)`` → ``(N, R, C)``.
    """

    def __init__(self, state_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(state_dim, 1)

    def forward(self, context: Tensor, states: Tensor) -> Tensor:
        """Return the context times its gate."""
        return context * torch.sigmoid(self.linear(states))
