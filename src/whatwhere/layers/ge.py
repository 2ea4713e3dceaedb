"""GE, gather-excite."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..errors import WhatwhereError
from .attention import GatedAttention, Gates
from .checks import check_choice, check_count, check_flag, check_size, hidden_width
from .gate import apply_gate, check_gate
from .key_map import KeyMap, Shapes
from .mlp import reduction_from
from .norm import BatchNorm2d
from .registry import register

LEARNED = ("nothing", "gather", "excite", "both")
EXTENTS = (0, 2, 4, 8)

_LAYERS = [f"downop.{i}.{part}" for i in range(3) for part in ("dwconv", "bn")]
_MLP = ["mlp.0", "mlp.2"]


class _Down(nn.Module):
    """A depthwise convolution and its normalisation."""

    def __init__(self, channels: int, kernel_size: Sequence[int], stride: int, padding: int, **factory: Any) -> None:
        super().__init__()
        kernel = (kernel_size[0], kernel_size[1])
        self.dwconv = nn.Conv2d(channels, channels, kernel, stride, padding, groups=channels, bias=False, **factory)
        self.bn = BatchNorm2d(channels, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised convolution."""
        y: Tensor = self.bn(self.dwconv(x))
        return y


@register(
    "ge",
    title="gather-excite: gates from averages or depthwise convolutions of large neighbourhoods",
    paper="Gather-Excite, NeurIPS 2018, arXiv 1810.12348",
    code="https://github.com/hujie-frank/GENet",
    formula="up(σ(excite(gather(x)))), gather an average or depthwise convolutions, excite nothing or an MLP",
    kind="channel",
    key_maps=(
        KeyMap(
            "the GE of BayesWatch/pytorch-GENet",
            {
                "downop.dwconv": "downop.0.dwconv",
                "downop.bn": "downop.0.bn",
                **{name: name for name in [*_LAYERS, *_MLP]},
            },
            options={"gate": "sigmoid", "bias": False, "relu": False},
            example={"learned": "both", "extent": 4},
        ),
        KeyMap(
            "timm's GE",
            {
                **{f"gather.conv{i + 1}": f"downop.{i}.dwconv" for i in range(3)},
                **{f"gather.norm{i + 1}": f"downop.{i}.bn" for i in range(3)},
                "mlp.fc1": "mlp.0",
                "mlp.fc2": "mlp.2",
            },
            options={"gate": "sigmoid", "bias": True, "relu": False},
            example={"learned": "both", "extent": 4},
        ),
    ),
)
class GatherExcite(GatedAttention):
    r"""Gather-excite: each channel is gathered over a large neighbourhood or the whole map, and gated by the result.

    .. math::
        y = x \cdot up\big(\sigma(excite(gather(x)))\big)

    With the extent E = 0 a channel is gathered from the whole map, and has one gate; otherwise from neighbourhoods at
    every E-th position, and up repeats the nearest gate. ``learned`` says which parts have parameters:

    - ``nothing``, the paper's θ⁻: gather is the average of the map, or of the (2E − 1) × (2E − 1) positions around
      (those outside the map do not count).
    - ``gather``, θ: gather is a depthwise convolution as large as the map with a batch normalisation, or log₂ E
      depthwise 3×3 convolutions of stride 2, each with its normalisation, and ReLU between them.
    - ``both``, θ⁺: the same, ReLU, and as excite two 1×1 convolutions C → C/r → C with ReLU between them.
    - ``excite``: the averages of θ⁻ and the convolutions of θ⁺, not in the paper; with E = 0 that is
      squeeze-and-excitation.

    Args:
        channels: C of the maps.
        learned: ``nothing``, ``gather``, ``both`` or ``excite``.
        extent: E: 0 (the whole map), 2, 4 or 8.
        size: the height and width of the maps, a number or a pair; needed for ``gather`` and ``both`` with ``extent=0``
            and for nothing else. Maps of another size then raise.
        reduction: r; the hidden width is max(1, C // r).
        bias: whether the 1×1 convolutions have biases.
        relu: whether ``both`` has the ReLU between gather and excite.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gate is 2·σ(z), and the last 1×1 convolution, or else the last
            normalisation, starts at 0; for ``nothing`` it is 2·σ(γ·z) with a number γ that is learned and starts at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: channel ``(N, C, 1, 1)`` for ``extent=0``, otherwise full ``(N, C,
        H, W)``, constant in blocks of about E × E.

    Paper:
        Gather-Excite (arXiv 1810.12348); official code: hujie-frank/GENet, ``models/RN50-GEPF.prototxt`` (θ⁻),
        ``RN50-GEP.prototxt`` (θ) and ``RN50-GEPP.prototxt`` (θ⁺), all with ``extent=0``, after the last normalisation
        of a block. The depthwise convolutions start He-normal, the 1×1 convolutions normal with standard deviation 0.01
        and biases 0, so the output of θ⁺ is about x/2. Extents with parameters are as in BayesWatch/pytorch-GENet,
        ``models/blocks.py``.

    Deviations: the official code has no extents but 0. The hidden width is at least 1. A training batch of one image
    takes the running statistics for ``extent=0``, where PyTorch's BatchNorm raises. pytorch-GENet gathers without
    parameters by adaptive averages of H/E × H/E cells, and here it is by the paper's overlapping ones; it takes square
    maps only.

    Copies: pytorch-GENet's MLP has no biases, and neither it nor timm has the ReLU before it: weights trained there
    need ``bias=False, relu=False`` and ``relu=False``.

    Raises:
        WhatwhereError: an unknown ``learned``, extent or gate, a missing or needless ``size``, a number below 1, a map
            of another size than ``size``, a flag that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.GatherExcite(64, extent=4).gates(torch.randn(2, 64, 14, 14)).full.shape
        torch.Size([2, 64, 14, 14])
        >>> ww.GatherExcite(64, learned="both", size=14).gates(torch.randn(2, 64, 14, 14)).channel.shape
        torch.Size([2, 64, 1, 1])
    """

    def __init__(
        self,
        channels: int,
        *,
        learned: str = "nothing",
        extent: int = 0,
        size: int | tuple[int, int] | None = None,
        reduction: int = 16,
        bias: bool = True,
        relu: bool = True,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.learned = check_choice("learned", learned, LEARNED)
        if isinstance(extent, bool) or extent not in EXTENTS:
            raise WhatwhereError(f"extent must be one of {', '.join(map(str, EXTENTS))}, got {extent!r}")
        self.extent = extent
        self.relu = check_flag("relu", relu)
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        self.convolves = learned in ("gather", "both")
        if (size is None) == (self.convolves and extent == 0):
            needed = "needs size, the height and width of the maps: its convolution is as large as they are"
            raise WhatwhereError(
                f"learned={learned!r} with extent={extent} "
                + (needed if size is None else "takes maps of every size: leave size out")
            )
        self.size = None if size is None else check_size("size", size)
        factory = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        if self.size is not None:
            layers = [_Down(channels, self.size, 1, 0, **factory)]
        elif self.convolves:
            layers = [_Down(channels, (3, 3), 2, 1, **factory) for _ in range(extent.bit_length() - 1)]
        self.downop = nn.ModuleList(layers)
        hidden = hidden_width(channels, reduction)
        check_flag("bias", bias)
        self.mlp = nn.Sequential()
        if learned in ("excite", "both"):
            self.mlp.append(nn.Conv2d(channels, hidden, 1, bias=bias, **factory))
            self.mlp.append(nn.ReLU())
            self.mlp.append(nn.Conv2d(hidden, channels, 1, bias=bias, **factory))
        self.gamma = nn.Parameter(torch.empty((), **factory)) if identity and learned == "nothing" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for layer in self.downop:
            assert isinstance(layer, _Down)
            nn.init.kaiming_normal_(layer.dwconv.weight)
            layer.bn.reset_parameters()
        for conv in self.mlp[::2]:
            nn.init.normal_(conv.get_parameter("weight"), std=0.01)
            if conv.bias is not None:
                nn.init.zeros_(conv.get_parameter("bias"))
        if self.gamma is not None:
            nn.init.zeros_(self.gamma)
        elif self.identity:
            last = self.mlp[2] if len(self.mlp) else self.downop[-1].get_submodule("bn")
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``learned``, and what belongs to it."""
        kernels = [shape for name, shape in shapes.items() if name.endswith("dwconv.weight")]
        first = shapes.get("mlp.0.weight")
        learned = {(True, True): "both", (True, False): "gather", (False, True): "excite"}
        found: dict[str, Any] = {"learned": learned.get((bool(kernels), first is not None), "nothing")}
        if first is not None:
            found |= {**reduction_from(first[:2]), "bias": "mlp.0.bias" in shapes}
        if len(kernels) == 1 and kernels[0][2:] != (3, 3):
            return {**found, "extent": 0, "size": kernels[0][2:]}
        return {**found, "extent": 2 ** len(kernels)} if kernels else found

    def settings(self) -> dict[str, Any]:
        """Return the options that have an effect."""
        idle = {"excite": {"relu"}, "gather": {"reduction", "bias", "relu"}, "nothing": {"reduction", "bias", "relu"}}
        found = {k: v for k, v in super().settings().items() if k not in idle.get(self.learned, ())}
        return {**found, "size": self.size}

    def excite(self, squeezed: Tensor) -> Tensor:
        """Return the channel gate: averages ``(N, 1, C)`` → ``(N, C, 1, 1)``."""
        return self._gate(squeezed[:, 0, :, None, None])

    def steps(self) -> tuple[ops.Step, ...]:
        """Return the one step of the form that averages the map: squeeze over space, excite."""
        return () if self.convolves or self.extent else (ops.Step("channel", ("avg",), self.excite),)

    def gates(self, x: Tensor) -> Gates:
        """Return the channel gate for ``extent=0``, or else the full gate, ``(N, C, H, W)``."""
        if self.steps():
            return super().gates(x)
        if self.size is not None:
            if x.shape[2:] != self.size:
                raise WhatwhereError(f"this attention was made for maps of {self.size}, got {tuple(x.shape[2:])}")
            return Gates(channel=self._gate(self.downop[0](x)))
        if not self.convolves:
            z = F.avg_pool2d(x, 2 * self.extent - 1, self.extent, self.extent - 1, count_include_pad=False)
            return Gates(full=_up(self._gate(z), x))
        z = x
        for number, layer in enumerate(self.downop):
            z = layer(F.relu(z) if number else z)
        return Gates(full=_up(self._gate(z), x))

    def _gate(self, z: Tensor) -> Tensor:
        """Return the gates of what is gathered."""
        z = F.relu(z) if self.relu and self.learned == "both" else z
        z = self.mlp(z)
        return apply_gate(z if self.gamma is None else self.gamma * z, self.gate, self.identity)

    def extra_repr(self) -> str:
        """Say the options."""
        size = "" if self.size is None else f", size={self.size}"
        return f"{self.channels}, learned={self.learned!r}, extent={self.extent}{size}, identity={self.identity}"


def _up(gate: Tensor, x: Tensor) -> Tensor:
    """Return the nearest gate for each position of the map."""
    return F.interpolate(gate, size=x.shape[2:], mode="nearest")
