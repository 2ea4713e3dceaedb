"""eSE, effective squeeze and excitation."""

from typing import Any

from torch import Tensor, nn

from .. import ops
from .attention import GatedAttention
from .checks import check_count, check_flag
from .gate import apply_gate, check_gate
from .key_map import KeyMap
from .registry import register


@register(
    "ese",
    title="effective squeeze and excitation of VoVNetV2",
    paper="CenterMask, CVPR 2020, arXiv 1911.06667",
    code="https://github.com/youngwanLEE/CenterMask",
    formula="c = hard σ(W avg(x))",
    kind="channel",
    key_maps=(
        KeyMap(
            "the official eSE code",
            {"fc": "fc"},
            r"(?P<block>.+)\.ese",
            where="itself",
            options={"gate": "hard_sigmoid"},
        ),
        KeyMap(
            "timm's eSE",
            {"fc": "fc"},
            r"(?P<block>.+)\.attn",
            where="itself",
            options={"gate": "hard_sigmoid"},
        ),
        KeyMap("the channel attention of ultralytics' CBAM", {"fc": "fc"}, options={"gate": "sigmoid"}),
    ),
)
class ESE(GatedAttention):
    r"""Squeeze and excitation with one layer of full width, so that no channel passes a bottleneck.

    .. math:: c = \sigma_{hard}\big(W\, avg(x) + b\big), \qquad \sigma_{hard}(z) = ReLU6(z + 3)/6, \qquad y = x \cdot c

    Args:
        channels: C of the maps.
        gate: ``hard_sigmoid`` or ``sigmoid``. The hard one has a gradient of exactly 0 beyond ±3.
        identity: start with every gate exactly 1: the gate is 2·σ(z) and the layer starts at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: channel ``(N, C, 1, 1)``.

    Paper:
        CenterMask (arXiv 1911.06667); official code: youngwanLEE/CenterMask,
        ``maskrcnn_benchmark/modeling/backbone/vovnet.py``, ``eSEModule``: a 1×1 convolution C → C with bias, PyTorch's
        initial values. At the start the gate is about ½, and so is y against x. C² + C parameters.

    Deviations from the official code: none. It accepts a ``reduction`` and ignores it; here there is none.

    Copies: timm's ``ese`` is the same function. The channel part of the CBAM in ultralytics is it with
    ``gate="sigmoid"``.

    Raises:
        WhatwhereError: an unknown gate, ``channels`` below 1, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.ESE(64).gates(torch.rand(2, 64, 7, 7)).channel.shape
        torch.Size([2, 64, 1, 1])
    """

    def __init__(
        self,
        channels: int,
        *,
        gate: str = "hard_sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        self.fc = nn.Conv2d(channels, channels, 1, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.fc.reset_parameters()
        if self.identity:
            for parameter in self.fc.parameters():
                nn.init.zeros_(parameter)

    def excite(self, squeezed: Tensor) -> Tensor:
        """Return the channel gate: averages ``(N, 1, C)`` → ``(N, C, 1, 1)``."""
        return apply_gate(self.fc(squeezed[:, 0, :, None, None]), self.gate, self.identity)

    def steps(self) -> tuple[ops.Step, ...]:
        """Return the one step: squeeze over space, excite."""
        return (ops.Step("channel", ("avg",), self.excite),)

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, gate={self.gate!r}, identity={self.identity}"
