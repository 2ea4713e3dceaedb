"""SAM, the spatial attention module of CBAM."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .. import ops
from ..errors import WhatwhereError
from .attention import GatedAttention
from .checks import check_count, check_flag, check_odd, check_pools
from .gate import apply_gate, check_gate, gate_factor
from .key_map import KeyMap, Shapes
from .norm import BatchNorm2d
from .registry import register


@register(
    "sam",
    title="spatial attention module of CBAM",
    paper="CBAM, ECCV 2018, arXiv 1807.06521",
    code="https://github.com/Jongchan/attention-module",
    formula="s = σ(BN(conv₇ₓ₇([max over C, avg over C])))",
    kind="spatial",
    key_maps=(
        KeyMap(
            "the spatial part of the official CBAM code",
            {"spatial.conv": "conv", "spatial.bn": "bn"},
            options={"gate": "sigmoid", "pools": ("max", "avg")},
        ),
    ),
)
class SpatialAttention(GatedAttention):
    r"""Spatial attention ("where") from what the channels say at each position.

    .. math:: s = \sigma\big(BN(f^{k \times k}([p(x)]_{p \in pools}))\big), \qquad y = x \cdot s

    Args:
        channels: C of the maps (only ``pools="conv"`` has parameters that depend on it).
        kernel_size: k, odd; zero padding keeps the map's size.
        pools: any of ``max``, ``avg`` in the order in which they are stacked, or ``"conv"``: one map learned by a 1×1
            convolution without bias (Table 2 of the paper).
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gate is 2·σ(z); z is 0 at the start in the paper's form already.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: spatial ``(N, 1, H, W)``.

    Paper:
        CBAM (arXiv 1807.06521), section 3.1; official code: Jongchan/attention-module, ``MODELS/cbam.py``,
        ``SpatialGate``: maps stacked [max, avg], a convolution without bias (drawn He-normal, fan-out), then
        BatchNorm2d(1, momentum 0.01) whose weight starts at 0, so that the gate in the paper's form is 0.5 everywhere
        at the start.

    Deviations: a training batch with a single position (one image of 1×1) takes the running statistics, where PyTorch's
        BatchNorm raises.

    Raises:
        WhatwhereError: an even kernel, an unknown pool or gate, a pool named twice, ``identity`` that is neither True
            nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.SpatialAttention(64, kernel_size=3).gates(torch.rand(2, 64, 7, 7)).spatial.shape
        torch.Size([2, 1, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 7,
        pools: str | Sequence[str] = ("max", "avg"),
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        check_odd("kernel_size", kernel_size)
        learned = pools == "conv" or tuple(pools) == ("conv",)
        if not learned and "conv" in pools:
            raise WhatwhereError(f"the pool 'conv' stands alone, got pools={pools!r}")
        self.pools = ("conv",) if learned else check_pools(pools, [*ops.CHANNEL_POOLS, "conv"])
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        factory = {"device": device, "dtype": dtype}
        self.squeeze = nn.Conv2d(channels, 1, 1, bias=False, **factory) if learned else None
        self.conv = nn.Conv2d(len(self.pools), 1, kernel_size, padding=kernel_size // 2, bias=False, **factory)
        self.bn = BatchNorm2d(1, eps=1e-5, momentum=0.01, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for conv in (self.squeeze, self.conv):
            if conv is not None:
                nn.init.kaiming_normal_(conv.weight, mode="fan_out")
        self.bn.reset_parameters()
        nn.init.zeros_(self.bn.weight)

    def settings(self) -> dict[str, Any]:
        """Return the value of every option, the pools as a tuple."""
        return {**super().settings(), "pools": self.pools}

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``kernel_size``."""
        kernel = shapes.get("conv.weight", ())
        return {"kernel_size": kernel[-1]} if len(kernel) == 4 else {}

    def logits(self, maps: Tensor) -> Tensor:
        """Return what the gate function is applied to: ``(N, P, H, W)`` of the pools → ``(N, 1, H, W)``."""
        z: Tensor = self.bn(ops.filter_maps(maps, self.conv.weight))
        return z

    def excite(self, maps: Tensor) -> Tensor:
        """Return the spatial gate: ``(N, P, H, W)`` of the pools → ``(N, 1, H, W)``."""
        return apply_gate(self.logits(maps), self.gate, self.identity)

    def learned(self, x: Tensor, channel: Tensor | None = None) -> Tensor:
        """Return the squeeze ``"conv"``, ``(N, 1, H, W)``, of the map times an optional channel gate."""
        assert self.squeeze is not None
        maps: Tensor = self.squeeze(ops.apply_gates(x, channel))
        return maps

    def steps(self) -> tuple[ops.Step, ...]:
        """Return the one step: squeeze over channels, excite."""
        known = ops.Filter(self.conv, self.bn, self.gate, gate_factor(self.identity))
        return (ops.Step("spatial", self.pools, self.excite, None if self.squeeze is None else self.learned, known),)

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, pools={self.pools}, gate={self.gate!r}, identity={self.identity}"
