"""CBAM, the convolutional block attention module: channel attention and spatial attention together."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from .. import ops
from ..errors import WhatwhereError
from .attention import Attention, Gates
from .channel import ChannelAttention
from .checks import check_choice
from .gate import apply_gate
from .registry import register
from .spatial import SpatialAttention

ORDERS = ("channel-spatial", "spatial-channel", "parallel")


@register(
    "cbam",
    title="channel, then spatial attention",
    paper="CBAM, ECCV 2018, arXiv 1807.06521",
    code="https://github.com/Jongchan/attention-module",
    formula="c = CAM(x), s = SAM(c·x)",
)
class CBAM(Attention):
    r"""Channel attention ("what") and spatial attention ("where"), one after the other or at once.

    - ``channel-spatial`` (the paper's choice): :math:`c = M_c(x),\; s = M_s(c \cdot x),\; y = x \cdot c \cdot s`
    - ``spatial-channel``: :math:`s = M_s(x),\; c = M_c(s \cdot x),\; y = x \cdot c \cdot s`
    - ``parallel``: :math:`y = x \cdot \sigma(z_c + z_s)`, the gates' arguments added before one gate function (its gate is ``full``)

    Args:
        channels: C of the maps.
        reduction: r of the channel attention; the hidden width is max(1, C // r).
        hidden: the hidden width itself, in place of C // r.
        activation: of the channel attention: ``relu`` (the paper), ``silu``, ``gelu``, ``hard_swish`` or ``relu6``.
        kernel_size: k of the spatial attention, odd.
        pools: squeezes of the channel attention: any of ``avg``, ``max``, ``lp``, ``lse``.
        spatial_pools: squeezes of the spatial attention: any of ``max``, ``avg``, or ``"conv"`` (a learned 1×1 convolution).
        channel: whether there is a channel attention.
        spatial: whether there is a spatial attention.
        order: one of the three above.
        bias: whether the MLP's layers have biases.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1 (gates are 2·σ(z) with z = 0 at the start); ``"spatial"``: only the spatial gate, the
            channel gate being the paper's σ(z), as where it goes on from a network's trained squeeze-and-excitation.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: channel ``(N, C, 1, 1)``, spatial ``(N, 1, H, W)``; in parallel full ``(N, C, H, W)``.

    Paper:
        CBAM (arXiv 1807.06521); official code: Jongchan/attention-module, ``MODELS/cbam.py``. Tables 1 to 3 of the paper are: ``pools`` with
        ``spatial=False``; ``spatial_pools`` and ``kernel_size``; ``order``.

    Deviations: see :class:`ChannelAttention` and :class:`SpatialAttention`. The official code has no ``spatial-channel`` and no ``parallel``; these
    follow the paper's text ("added and normalised with the sigmoid function").

    Raises:
        WhatwhereError: a wrong option (see the two parts), or both parts switched off, or an order without both parts.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        hidden: int | None = None,
        activation: str = "relu",
        kernel_size: int = 7,
        pools: str | Sequence[str] = ("avg", "max"),
        spatial_pools: str | Sequence[str] = ("max", "avg"),
        channel: bool = True,
        spatial: bool = True,
        order: str = "channel-spatial",
        bias: bool = True,
        gate: str = "sigmoid",
        identity: bool | Literal["spatial"] = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(channels)
        self.order = check_choice("order", order, ORDERS)
        if not (channel or spatial):
            raise WhatwhereError("channel=False and spatial=False leave nothing of CBAM: keep one of them")
        if order == "parallel" and not (channel and spatial):
            raise WhatwhereError("order='parallel' needs both parts: channel=True and spatial=True")
        if identity not in (True, False) and (
            identity != "spatial" or order == "parallel" or not (channel and spatial)
        ):
            raise WhatwhereError(
                f"identity={identity!r}: must be True or False, or, where a channel and a spatial gate follow each other, 'spatial'"
            )
        self.gate = gate
        self.identity = identity
        # Both parts are built in any case, so that a wrong option is never silently ignored.
        common = {"gate": gate, "device": device, "dtype": dtype}
        what = ChannelAttention(
            channels,
            reduction=reduction,
            hidden=hidden,
            activation=activation,
            pools=pools,
            bias=bias,
            identity=identity != "spatial" and bool(identity),
            **common,
        )
        where = SpatialAttention(
            channels, kernel_size=kernel_size, pools=spatial_pools, identity=bool(identity), **common
        )
        self.channel = what if channel else None
        self.spatial = where if spatial else None

    def steps(self) -> tuple[ops.Step, ...]:
        """Return the steps in their order; none for the parallel order, whose gate is no product."""
        if self.order == "parallel":
            return ()
        parts = (self.channel, self.spatial) if self.order == "channel-spatial" else (self.spatial, self.channel)
        return tuple(step for part in parts if part is not None for step in part.steps())

    def gates(self, x: Tensor) -> Gates:
        """Return the channel and the spatial gate, or the full gate of the parallel order."""
        if self.order != "parallel":
            return super().gates(x)
        assert self.channel is not None
        assert self.spatial is not None
        maps = self.spatial.learned(x) if self.spatial.squeeze is not None else None
        maps = ops.squeeze_channels(x, self.spatial.pools) if maps is None else maps
        z = self.channel.logits(ops.squeeze_space(x, self.channel.pools)) + self.spatial.logits(maps)
        return Gates(full=apply_gate(z, self.gate, self.identity))

    @property
    def channel_neutral(self) -> float:
        """The channel gate that says nothing: 1/2 where only the spatial gate starts at 1."""
        return 0.5 if self.identity == "spatial" else self.neutral

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for part in (self.channel, self.spatial):
            if part is not None:
                part.reset_parameters()

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, order={self.order!r}, identity={self.identity}"
