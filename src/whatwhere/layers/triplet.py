"""Triplet attention."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from .attention import GatedAttention, Gates
from .checks import check_count, check_flag, check_odd
from .gate import apply_gate, check_gate
from .key_map import KeyMap, Shapes
from .norm import BatchNorm2d
from .registry import register

_LAYERS = ("conv.conv", "conv.bn")
_OPTIONS = {"gate": "sigmoid"}


def _published(branch: str, ours: str) -> dict[str, str]:
    """Return the names of a branch in the published networks."""
    return {f"{branch}.spatial.{layer.removeprefix('conv.')}": f"{ours}.{layer}" for layer in _LAYERS}


@register(
    "triplet",
    title="triplet attention",
    paper="Triplet Attention, WACV 2021, arXiv 2010.03045",
    code="https://github.com/landskape-ai/triplet-attention",
    formula="mean of σ(BN(conv₇ₓ₇([max, avg]))) over H, over W and over C",
    kind="full",
    key_maps=(
        KeyMap(
            "the official triplet attention code",
            {f"{branch}.{layer}": f"{branch}.{layer}" for branch in ("cw", "hc", "hw") for layer in _LAYERS},
            r"(?P<block>.+)\.triplet_attention",
            options=_OPTIONS,
        ),
        KeyMap(
            "the published networks with triplet attention",
            {
                **_published("ChannelGateH", "cw"),
                **_published("ChannelGateW", "hc"),
                **_published("SpatialGate", "hw"),
            },
            r"(?P<block>.+)\.triplet_attention",
            options=_OPTIONS,
        ),
    ),
)
class TripletAttention(GatedAttention):
    r"""Triplet attention: the mean of three gates, each from what one axis of the map says at each place of the others.

    .. math::
        g_{A} = \sigma\big(BN(f^{k \times k}([max_A(x), avg_A(x)]))\big), \qquad
        y = x \cdot \tfrac13 (g_H + g_W + g_C)

    where A is the axis that is pooled: :math:`g_H` is ``(N, C, 1, W)``, convolved over the plane of channels and
    columns, :math:`g_W` is ``(N, C, H, 1)``, convolved over the plane of rows and channels, and :math:`g_C` is ``(N, 1,
    H, W)``, the spatial attention of CBAM. The convolutions over channels see k neighbouring channels, so their order
    matters.

    Args:
        channels: C of the maps. No parameter depends on it.
        kernel_size: k, odd; zero padding keeps the size.
        spatial: whether :math:`g_C` is there; False is the official ``no_spatial=True``, the mean of the other two.
        gate: ``sigmoid`` or ``hard_sigmoid``, of all gates.
        identity: start with every gate exactly 1: the gates are 2·σ(z) and the weights of the normalisations start at
            0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``, the mean of the three.

    Paper:
        Triplet Attention (arXiv 2010.03045); official code: landskape-ai/triplet-attention, ``triplet_attention.py``:
        no biases, BatchNorm2d(1, momentum 0.01), PyTorch's initial values. All gates are near 1/2 at the start, so y is
        near x/2. The official ResNet (``MODELS/resnet.py``) has it after the last normalisation of a block, draws the
        convolutions He-normal (fan-out) and starts the weight of the normalisation of :math:`g_C`, and of no other, at
        0. There are published networks with k = 7 and with k = 3.

    Deviations: a training batch with a single value in a plane takes the running statistics there, where PyTorch's
        BatchNorm raises.

    Raises:
        WhatwhereError: an even kernel, an unknown gate, ``channels`` below 1, ``spatial`` or ``identity`` that is
            neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> attention = ww.TripletAttention(64, spatial=False)
        >>> attention.gates(torch.rand(2, 64, 7, 5)).full.shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 7,
        spatial: bool = True,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        check_odd("kernel_size", kernel_size)
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        factory = {"device": device, "dtype": dtype}
        self.cw = PlaneGate(kernel_size, **factory)
        self.hc = PlaneGate(kernel_size, **factory)
        self.hw = PlaneGate(kernel_size, **factory) if check_flag("spatial", spatial) else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for branch in (self.cw, self.hc, self.hw):
            if branch is not None:
                branch.reset_parameters(zero=self.identity)

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``kernel_size`` and ``spatial``."""
        kernel = shapes.get("cw.conv.conv.weight", ())
        return {"kernel_size": kernel[-1], "spatial": "hw.conv.conv.weight" in shapes} if len(kernel) == 4 else {}

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``: the mean of the three, or of two."""
        logits = [self.cw(x.transpose(1, 2)).transpose(1, 2), self.hc(x.transpose(1, 3)).transpose(1, 3)]
        if self.hw is not None:
            logits.append(self.hw(x))
        first, second, *rest = (apply_gate(z, self.gate, self.identity) for z in logits)
        return Gates(full=sum(rest, first + second) / len(logits))

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, spatial={self.hw is not None}, gate={self.gate!r}, identity={self.identity}"


class PlaneGate(nn.Module):
    """What becomes the gates of a plane: the largest and the average of the first axis, a convolution, a normalisation.

    The two maps are stacked in this order; the submodules have their names of the official code.
    """

    def __init__(self, kernel_size: int, **factory: Any) -> None:
        super().__init__()
        conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False, **factory)
        bn = BatchNorm2d(1, eps=1e-5, momentum=0.01, **factory)
        self.conv = nn.Sequential(OrderedDict(conv=conv, bn=bn))

    def reset_parameters(self, zero: bool = False) -> None:
        """Draw the parameters anew; ``zero`` starts the weight of the normalisation at 0."""
        for layer in self.conv:
            assert isinstance(layer, (nn.Conv2d, BatchNorm2d))
            layer.reset_parameters()
        if zero:
            nn.init.zeros_(self.conv.get_parameter("bn.weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, A, P, Q)`` to ``(N, 1, P, Q)``. The gradient of the largest goes to one place, as in the papers."""
        maps = torch.stack((x.max(1).values, x.mean(1)), 1)
        z: Tensor = self.conv(maps)
        return z
