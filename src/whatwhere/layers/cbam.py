"""CBAM, the convolutional block attention module: channel attention and spatial attention together."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .. import ops
from ..errors import WhatwhereError
from .attention import Attention, GatedAttention, Gates
from .channel import ChannelAttention
from .checks import check_choice, check_flag
from .excitation import Excitation
from .gate import apply_gate
from .key_map import KeyMap, Shapes, dense
from .registry import register
from .spatial import SpatialAttention

_OPTIONS = {
    "gate": "sigmoid",
    "activation": "relu",
    "order": "channel-spatial",
    "pools": ("avg", "max"),
    "spatial_pools": ("max", "avg"),
}


def _from_timm(name: str, tensor: Tensor) -> Tensor:
    """Exchange the two input maps of the spatial convolution: timm stacks [mean, max]."""
    stacked = name == "spatial.conv.weight" and tensor.ndim == 4 and tensor.shape[1] == 2
    return tensor.flip(1) if stacked else dense(name, tensor)


def _light(shapes: Shapes) -> str:
    """Refuse timm's light CBAM, whose spatial convolution has one input map."""
    if shapes.get("spatial.conv.weight", ())[1:2] == (1,):
        return "the checkpoint's is timm's light CBAM, which adds the pools up: whatwhere does not have that formula"
    return ""


ORDERS = ("channel-spatial", "spatial-channel", "parallel")


@register(
    "cbam",
    title="channel, then spatial attention",
    paper="CBAM, ECCV 2018, arXiv 1807.06521",
    code="https://github.com/Jongchan/attention-module",
    formula="c = CAM(x), s = SAM(c·x)",
    kind="both",
    key_maps=(
        KeyMap(
            "the official CBAM code",
            {
                "ChannelGate.mlp.1": "channel.mlp.fc1",
                "ChannelGate.mlp.3": "channel.mlp.fc2",
                "SpatialGate.spatial.conv": "spatial.conv",
                "SpatialGate.spatial.bn": "spatial.bn",
            },
            r"(?P<block>.+)\.cbam",
            options=_OPTIONS,
        ),
        KeyMap(
            "timm's CBAM",
            {
                "channel.fc1": "channel.mlp.fc1",
                "channel.fc2": "channel.mlp.fc2",
                "spatial.conv.conv": "spatial.conv",
                "spatial.conv.bn": "spatial.bn",
            },
            r"(?P<block>.+)\.se",
            options=_OPTIONS,
            convert=_from_timm,
            problem=_light,
        ),
    ),
)
class CBAM(GatedAttention):
    r"""Channel attention ("what") and spatial attention ("where"), one after the other or at once.

    - ``channel-spatial`` (the paper's choice): :math:`c = M_c(x),\; s = M_s(c \cdot x),\; y = x \cdot c \cdot s`
    - ``spatial-channel``: :math:`s = M_s(x),\; c = M_c(s \cdot x),\; y = x \cdot c \cdot s`
    - ``parallel``: :math:`y = x \cdot \sigma(z_c + z_s)`, one gate function of the sum (its gate is ``full``)

    Args:
        channels: C of the maps.
        reduction: r of the channel attention; the hidden width is max(1, C // r).
        hidden: the hidden width itself, in place of C // r.
        activation: of the channel attention: ``relu`` (the paper), ``silu``, ``gelu``, ``hard_swish`` or ``relu6``.
        kernel_size: k of the spatial attention, odd.
        pools: squeezes of the channel attention: any of ``avg``, ``max``, ``lp``, ``lse``.
        spatial_pools: squeezes of the spatial attention: any of ``max``, ``avg``, or ``"conv"`` (a learned 1×1
            convolution).
        channel: whether there is a channel attention.
        spatial: whether there is a spatial attention.
        order: one of the three above.
        bias: whether the MLP's layers have biases.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: gates are 2·σ(z) with z = 0 at the start.
        channel_identity: the same for the channel gate alone, where it is to differ: ``identity=True,
            channel_identity=False`` has the paper's channel gate σ(z), as when it takes over a trained
            squeeze-and-excitation. None: like ``identity``.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: channel ``(N, C, 1, 1)``, spatial ``(N, 1, H, W)``; in parallel full
        ``(N, C, H, W)``.

    Paper:
        CBAM (arXiv 1807.06521); official code: Jongchan/attention-module, ``MODELS/cbam.py``. Tables 1 to 3 of the
        paper are: ``pools`` with ``spatial=False``; ``spatial_pools`` and ``kernel_size``; ``order``.

    Deviations: see :class:`ChannelAttention` and :class:`SpatialAttention`. The official code has no
    ``spatial-channel`` and no ``parallel``; these follow the paper's text ("added and normalised with the sigmoid
    function").

    Raises:
        WhatwhereError: a wrong option (see the two parts), both parts switched off, an order without both parts, or
            ``channel_identity`` where there is no channel gate of its own.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.CBAM(64, reduction=8, kernel_size=3)(torch.rand(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
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
        identity: bool = False,
        channel_identity: bool | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(channels)
        self.order = check_choice("order", order, ORDERS)
        if not (channel or spatial):
            raise WhatwhereError("channel=False and spatial=False leave nothing of CBAM: keep one of them")
        if order == "parallel" and not (channel and spatial):
            raise WhatwhereError("order='parallel' needs both parts: channel=True and spatial=True")
        self.gate = gate
        self.identity = check_flag("identity", identity)
        self.channel_identity = identity
        if channel_identity is not None:
            if not channel or order == "parallel":
                raise WhatwhereError(
                    f"channel_identity={channel_identity!r} needs a channel gate of its own: channel=True and an order "
                    "other than 'parallel'"
                )
            self.channel_identity = check_flag("channel_identity", channel_identity)
        # Both parts are built in any case, so that a wrong option is never silently ignored.
        common = {"gate": gate, "device": device, "dtype": dtype}
        what = ChannelAttention(
            channels,
            reduction=reduction,
            hidden=hidden,
            activation=activation,
            pools=pools,
            bias=bias,
            identity=self.channel_identity,
            **common,
        )
        where = SpatialAttention(channels, kernel_size=kernel_size, pools=spatial_pools, identity=identity, **common)
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
        """The channel gate at z = 0."""
        return 1.0 if self.channel_identity else 0.5

    def settings(self) -> dict[str, Any]:
        """Return the value of every option of the parts that there are, ``identity`` if either gate has it."""
        found = {**super().settings(), "identity": self.identity or self.channel_identity}
        for part, option in ((self.channel, "pools"), (self.spatial, "spatial_pools")):
            del found[option]
            if part is not None:
                found[option] = part.settings()["pools"]
        return found

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``reduction``, ``bias``, ``kernel_size``, and whether there is a ``spatial`` part."""
        channel = {k.removeprefix("channel."): shape for k, shape in shapes.items() if k.startswith("channel.")}
        spatial = {k.removeprefix("spatial."): shape for k, shape in shapes.items() if k.startswith("spatial.")}
        return {
            **ChannelAttention.options_from_shapes(channel),
            **SpatialAttention.options_from_shapes(spatial),
            "spatial": bool(spatial),
        }

    def excitation(self) -> Excitation | None:
        """Return the channel part's."""
        return None if self.channel is None else self.channel.excitation()

    @classmethod
    def options_for_excitation(
        cls, excitation: Excitation, *, identity: bool, chosen: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Return the channel part's; the spatial gate starts at 1 if the output is to stay."""
        if not chosen.get("channel", True):
            return None
        taken = ChannelAttention.options_for_excitation(excitation, identity=identity, chosen=chosen)
        same = taken.pop("identity")
        if chosen.get("order") == "parallel" or not chosen.get("spatial", True):
            return {**taken, "identity": same}
        return {**taken, "identity": identity, "channel_identity": same}

    def take_excitation(self, excitation: Excitation) -> bool:
        """Copy the weights into the channel part."""
        return self.channel is not None and self.channel.take_excitation(excitation)

    def after_channel_gate(self) -> Attention | None:
        """Return the spatial part, if it looks at the map after the channel gate."""
        return self.spatial if self.channel is not None and self.order == "channel-spatial" else None

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for part in (self.channel, self.spatial):
            if part is not None:
                part.reset_parameters()

    def extra_repr(self) -> str:
        """Say the options."""
        differs = self.channel_identity != self.identity
        own = f", channel_identity={self.channel_identity}" if differs else ""
        return f"{self.channels}, order={self.order!r}, identity={self.identity}{own}"
