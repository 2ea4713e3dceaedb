"""SCA, the attention of SCA-CNN: which channels and which positions count for the next word."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WhatwhereError
from .additive import channel_scores, position_scores, scaled_position_scores
from .attention import Gates
from .checks import check_choice, check_count, check_flag

ORDERS = ("channel-spatial", "spatial-channel")


class Prepared(NamedTuple):
    """What :class:`SCA` needs of a map and does not depend on the state; made once an image.

    Attributes:
        maps: ``(N, M, C)``, with M = H · W positions.
        mean: of each channel, ``(N, C)``.
        projected: W_s V + b_s, ``(N, M, K)``, where the spatial scores are those of the map itself.
        size: (H, W).
    """

    maps: Tensor
    mean: Tensor
    projected: Tensor | None
    size: tuple[int, int]


Weights = tuple[Tensor | None, Tensor | None]
"""Channel gates ``(N, R, C)`` and spatial gates ``(N, R, M)`` for R states of each map; None for what there is not."""


class SCA(nn.Module):
    r"""Channel and spatial attention that a state steers, such as that of the LSTM that writes a sentence.

    For a map V of C channels and m = H·W positions, and a state h:

    .. math::
        b = \tanh(v \otimes w_c + b_c \oplus W_{hc} h), \quad
        \beta = \mathrm{softmax}_{C}(b\,u_c), \qquad
        a = \tanh(W_s V' + b_s \oplus W_{hs} h), \quad
        \alpha = \mathrm{softmax}_{m}(a\,u_s)

    where v has the mean of each channel and ⊕ adds a vector to every row. ``"channel-spatial"`` (C-S): V′ = C·β·V, so α
    is made from the map whose channels are weighed already. ``"spatial-channel"`` (S-C): V′ = V, and v has the means of
    m·α·V. The result is

    .. math:: y = (C \beta) \cdot (m \alpha) \cdot V

    so the gates have the mean 1. Kind C is ``spatial=False``, kind S is ``channel=False``.

    Args:
        channels: C of the maps.
        state_dim: length of the state h.
        attention_dim: k, the length of the vectors inside tanh.
        order: ``"channel-spatial"`` or ``"spatial-channel"``.
        channel: whether there is channel attention.
        spatial: whether there is spatial attention.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        map ``(N, C, H, W)`` and state ``(N, D)`` → ``(N, C, H, W)``; with states ``(N, R, D)``, R for each map, →
        ``(N, R, C, H, W)``.

    Paper:
        SCA-CNN (arXiv 1611.05594), section 3; official code: zjuchenlong/sca-cnn.cvpr17 (Theano), which has C-S only.
        S, C and S-C follow the paper. As in the official code, weights start as N(0, 0.01²), square matrices as
        orthogonal ones, biases at 0, so that all gates are nearly 1 at the start.

    Deviations: the biases after u_c and u_s are left out, because a number that is added to all scores changes no
        softmax. The C·k and m·k activations of each state are not kept for the backward pass but made anew in it:
        a second derivative raises.

    Raises:
        WhatwhereError: a number below 1, an unknown order, neither kind of attention.

    Example:
        >>> import torch, whatwhere as ww
        >>> attention = ww.SCA(64, state_dim=32, attention_dim=16)
        >>> maps, state = torch.rand(2, 64, 7, 7), torch.rand(2, 32)
        >>> attention(maps, state).shape, attention.gates(maps, state).channel.mean().round(decimals=4).item()
        (torch.Size([2, 64, 7, 7]), 1.0)
    """

    def __init__(
        self,
        channels: int,
        state_dim: int,
        attention_dim: int = 512,
        order: str = "channel-spatial",
        channel: bool = True,
        spatial: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.channels = check_count("channels", channels)
        self.state_dim = check_count("state_dim", state_dim)
        self.attention_dim = check_count("attention_dim", attention_dim)
        self.order = check_choice("order", order, ORDERS)
        if not (check_flag("channel", channel) or check_flag("spatial", spatial)):
            raise WhatwhereError("SCA needs channel=True, spatial=True, or both; without either it does nothing")
        check_flag("spatial", spatial)
        factory = {"device": device, "dtype": dtype}
        self.channel = _Scorer((attention_dim,), state_dim, factory) if channel else None
        self.spatial = _Scorer((attention_dim, channels), state_dim, factory) if spatial else None
        self.channel_first = channel and (not spatial or order == "channel-spatial")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for scorer in (self.channel, self.spatial):
            if scorer is not None:
                scorer.reset_parameters()

    def prepare(self, x: Tensor) -> Prepared:
        """Return what does not depend on the state, for :meth:`weigh`, :meth:`pool` and :meth:`attend`.

        Raises:
            WhatwhereError: no map ``(N, C, H, W)`` with C channels.
        """
        if x.ndim != 4 or x.shape[1] != self.channels or not x.is_floating_point():
            raise WhatwhereError(
                f"SCA({self.channels}) takes floating maps (N, {self.channels}, H, W), got {x.dtype} {tuple(x.shape)}"
            )
        maps = x.flatten(2).transpose(1, 2).contiguous()
        projected = None
        if self.spatial is not None and not self.channel_first:
            projected = F.linear(maps, self.spatial.weight, self.spatial.bias)
        return Prepared(maps, maps.mean(1), projected, (int(x.shape[2]), int(x.shape[3])))

    def weigh(self, prepared: Prepared, states: Tensor) -> Weights:
        """Return the gates for R states of each map, ``(N, R, D)``."""
        maps, mean, projected, _ = prepared
        if self.channel_first:
            assert self.channel is not None
            channel = self._channel(mean[:, None], states)
            if self.spatial is None:
                return channel, None
            query = self.spatial.query(states) + self.spatial.bias
            scores = scaled_position_scores(maps, channel, self.spatial.weight, query, self.spatial.vector)
            return channel, _gate(scores)
        assert self.spatial is not None
        assert projected is not None
        spatial = _gate(position_scores(projected, self.spatial.query(states), self.spatial.vector))
        if self.channel is None:
            return None, spatial
        return self._channel(_pooled(maps, spatial), states), spatial

    def _channel(self, means: Tensor, states: Tensor) -> Tensor:
        assert self.channel is not None
        query = self.channel.query(states) + self.channel.bias
        return _gate(channel_scores(means, self.channel.weight, query, self.channel.vector))

    def pool(self, prepared: Prepared, weights: Weights) -> Tensor:
        """Return the mean over positions of the attended maps, ``(N, R, C)``, without making these maps."""
        channel, spatial = weights
        pooled = prepared.mean[:, None] if spatial is None else _pooled(prepared.maps, spatial)
        return pooled if channel is None else pooled * channel

    def attend(self, prepared: Prepared, weights: Weights) -> Tensor:
        """Return the attended maps, ``(N, R, C, H, W)``."""
        channel, spatial = weights
        y = prepared.maps[:, None]
        if channel is not None:
            y = y * channel[:, :, None]
        if spatial is not None:
            y = y * spatial[..., None]
        return y.transpose(2, 3).reshape(*y.shape[:2], self.channels, *prepared.size)

    def gates(self, x: Tensor, state: Tensor) -> Gates:
        """Return the gates: channel ``(N, C, 1, 1)``, spatial ``(N, 1, H, W)``.

        Raises:
            WhatwhereError: a map or a state of another shape.
        """
        channel, spatial = self.weigh(self.prepare(x), self._states(x, state, (2,)))
        return Gates(
            None if channel is None else channel[:, 0, :, None, None],
            None if spatial is None else spatial.view(len(x), 1, *x.shape[2:]),
        )

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Return the map times its gates.

        Raises:
            WhatwhereError: a map or a state of another shape.
        """
        prepared = self.prepare(x)
        attended = self.attend(prepared, self.weigh(prepared, self._states(x, state, (2, 3))))
        return attended if state.ndim == 3 else attended[:, 0]

    def _states(self, x: Tensor, state: Tensor, dims: tuple[int, ...]) -> Tensor:
        if state.ndim not in dims or state.shape[-1] != self.state_dim or len(state) != len(x):
            raise WhatwhereError(
                f"the state for {len(x)} maps must be ({len(x)}, {self.state_dim})"
                f"{f' or ({len(x)}, R, {self.state_dim})' if 3 in dims else ''}, got {tuple(state.shape)}"
            )
        return state if state.ndim == 3 else state[:, None]

    def extra_repr(self) -> str:
        """Say the options."""
        order = f", order={self.order!r}" if self.channel is not None and self.spatial is not None else ""
        return (
            f"{self.channels}, state_dim={self.state_dim}, attention_dim={self.attention_dim}{order}, "
            f"channel={self.channel is not None}, spatial={self.spatial is not None}"
        )


class _Scorer(nn.Module):
    """The parameters of one kind of scores: what is done to the map, the state, and what is inside tanh."""

    def __init__(self, weight: tuple[int, ...], state_dim: int, factory: dict[str, Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(weight, **factory))
        self.bias = nn.Parameter(torch.empty(weight[0], **factory))
        self.query = nn.Linear(state_dim, weight[0], bias=False, **factory)
        self.vector = nn.Parameter(torch.empty(weight[0], **factory))

    def reset_parameters(self) -> None:
        for weight in (self.weight, self.query.weight, self.vector):
            draw(weight)
        nn.init.zeros_(self.bias)


def draw(weight: Tensor) -> None:
    """Draw a weight as the official code of SCA-CNN does: N(0, 0.01²), square matrices orthogonal.

    Example:
        >>> draw(weight := torch.empty(4, 4))
        >>> torch.allclose(weight @ weight.T, torch.eye(4), atol=1e-6)
        True
    """
    if weight.ndim == 2 and weight.shape[0] == weight.shape[1]:
        nn.init.orthogonal_(weight)
    else:
        nn.init.normal_(weight, std=0.01)


def _gate(scores: Tensor) -> Tensor:
    """Return the softmax of scores over the last axis times its length."""
    return scores.softmax(-1) * scores.shape[-1]


def _pooled(maps: Tensor, spatial: Tensor) -> Tensor:
    """Return the mean over positions of maps ``(N, M, C)`` times gates ``(N, R, M)``: ``(N, R, C)``."""
    return torch.matmul(spatial, maps) / maps.shape[1]
