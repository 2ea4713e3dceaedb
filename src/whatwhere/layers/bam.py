"""BAM, the bottleneck attention module."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from .attention import GatedAttention, Gates
from .checks import check_choice, check_count, check_flag, hidden_width
from .gate import apply_gate, check_gate
from .key_map import KeyMap, Shapes
from .mlp import reduction_from
from .norm import BatchNorm1d, BatchNorm2d
from .registry import register

_PARTS = {
    "channel_att.gate_c.gate_c_fc_0": "fc1",
    "channel_att.gate_c.gate_c_bn_1": "bn",
    "channel_att.gate_c.gate_c_fc_final": "fc2",
    "spatial_att.gate_s.gate_s_conv_reduce0": "body.0",
    "spatial_att.gate_s.gate_s_bn_reduce0": "body.1",
    "spatial_att.gate_s.gate_s_conv_final": "head",
}
for _i in range(8):  # at most so many 3×3 convolutions
    _PARTS[f"spatial_att.gate_s.gate_s_conv_di_{_i}"] = f"body.{3 + 3 * _i}"
    _PARTS[f"spatial_att.gate_s.gate_s_bn_di_{_i}"] = f"body.{4 + 3 * _i}"


@register(
    "bam",
    title="bottleneck attention module",
    paper="BAM, BMVC 2018, arXiv 1807.06514",
    code="https://github.com/Jongchan/attention-module",
    formula="1 + σ(z_c · z_s), z_c from avg(x), z_s from dilated convolutions",
    kind="both",
    key_maps=(
        KeyMap(
            "the official BAM code",
            _PARTS,
            unit=r"(?P<start>(?:.*\.)?)bam(?P<number>\d)",
            module=r"\g<start>layer\g<number>",
            where="stage",
            options={"gate": "sigmoid", "combine": "product", "dilation": 4},
        ),
    ),
)
class BAM(GatedAttention):
    r"""Channel and spatial attention joined before the gate function, meant for the end of a stage.

    .. math::
        z_c &= W_2\, ReLU(BN(W_1\, avg(x) + b_1)) + b_2 \\
        z_s &= f^{1 \times 1}\big((ReLU \circ BN \circ f^{3 \times 3}_{dilated})^{depth}
            (ReLU(BN(f^{1 \times 1}(x))))\big) \\
        y &= x \cdot (1 + \sigma(z_c \cdot z_s))

    Args:
        channels: C of the maps.
        reduction: r; the hidden width of both branches is max(1, C // r).
        dilation: of the 3×3 convolutions.
        depth: how many 3×3 convolutions.
        combine: ``product`` as in the official code, or ``sum`` as in the paper: 1 + σ(z_c + z_s).
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gate is 2·σ(z) in place of 1 + σ(z), with z = 0 at the start (the
            channel branch's last layer starts at 0, and for ``sum`` the spatial one's too: with both at 0 a product
            would never learn).
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``, in (1, 2); with ``identity`` in (0, 2).

    Paper:
        BAM (arXiv 1807.06514); official code: Jongchan/attention-module, ``MODELS/bam.py``; placed after the first
        three stages.

    Deviations: the official code squeezes by the height alone, which fails on maps that are not square; here the whole
    map is averaged. The hidden width is at least 1. A training batch of one image takes the running statistics in the
    channel branch, where PyTorch's BatchNorm raises. Biases start at 0 and convolutions He-normal (fan-out), as the
    official ResNet sets them.

    Raises:
        WhatwhereError: an unknown ``combine`` or gate, a number below 1, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.BAM(64).gates(torch.rand(2, 64, 7, 7)).full.shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        dilation: int = 4,
        depth: int = 2,
        combine: str = "product",
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(channels)
        self.combine = check_choice("combine", combine, ("product", "sum"))
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        check_count("dilation", dilation)
        hidden = hidden_width(channels, reduction)
        factory = {"device": device, "dtype": dtype}
        self.fc1 = nn.Linear(channels, hidden, **factory)
        self.bn = BatchNorm1d(hidden, **factory)
        self.fc2 = nn.Linear(hidden, channels, **factory)
        layers: list[nn.Module] = [nn.Conv2d(channels, hidden, 1, **factory), BatchNorm2d(hidden, **factory), nn.ReLU()]
        for _ in range(check_count("depth", depth)):
            conv = nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation, **factory)
            layers += [conv, BatchNorm2d(hidden, **factory), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(hidden, 1, 1, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.modules.batchnorm._BatchNorm)):
                module.reset_parameters()
                assert module.bias is not None
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if self.identity:
            nn.init.zeros_(self.fc2.weight)
            if self.combine == "sum":
                nn.init.zeros_(self.head.weight)

    @property
    def neutral(self) -> float:
        """The gate where z is 0: 1 + 1/2 in the paper's form."""
        return 1.0 if self.identity else 1.5

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``reduction`` and ``depth``."""
        found: dict[str, Any] = reduction_from(shapes.get("fc1.weight"))
        convolutions = [name for name in shapes if name.startswith("body.") and len(shapes[name]) == 4]
        return {**found, "depth": max(len(convolutions) - 1, 1)}

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``."""
        squeezed = ops.squeeze_space(x, ("avg",))[:, 0]
        z_c = self.fc2(F.relu(self.bn(self.fc1(squeezed))))[:, :, None, None]
        z_s = self.head(self.body(x))
        z = z_c * z_s if self.combine == "product" else z_c + z_s
        gate = apply_gate(z, self.gate, self.identity)
        return Gates(full=gate if self.identity else 1 + gate)

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, combine={self.combine!r}, gate={self.gate!r}, identity={self.identity}"
