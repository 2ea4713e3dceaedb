"""MLCA, mixed local channel attention."""

import math
from typing import Any

from torch import Tensor, nn

from ..errors import WhatwhereError
from . import windows
from .attention import GatedAttention, Gates
from .checks import check_count, check_flag, check_odd
from .gate import apply_gate, check_gate
from .key_map import KeyMap, Shapes
from .registry import register


@register(
    "mlca",
    title="mixed local channel attention",
    paper="MLCA, Engineering Applications of Artificial Intelligence 123, 2023, 106442",
    code="https://github.com/wandahangFY/MLCA",
    formula="up(½ σ(conv1dₖ(l)) + ½ σ(conv1dₖ(avg(l)))), l = avg₅ₓ₅(x)",
    kind="full",
    key_maps=(
        KeyMap(
            "the official MLCA code",
            {"conv": "conv", "conv_local": "conv_local"},
            options={"gate": "sigmoid"},
        ),
    ),
)
class MLCA(GatedAttention):
    r"""Efficient channel attention of 5 × 5 cells, mixed with that of the whole map.

    .. math::
        l &= avg_{5 \times 5}(x), \qquad z_{local} = conv1d_k(l), \qquad z_{global} = conv1d_k(avg(l)) \\
        y &= x \cdot up\big(w\,\sigma(z_{local}) + (1 - w)\,\sigma(z_{global})\big)

    The local convolution runs over one row of numbers, position after position with the channels of each position side
    by side, so that the first and last channels of neighbouring positions see each other. The global one runs over the
    channels of the average of the cells, which is not quite the average of the map where the cells overlap. up is the
    adaptive average from 5 × 5 to H × W.

    Args:
        channels: C of the maps.
        local_size: cells along each side, 5.
        kernel_size: k of both convolutions, odd; None takes it from C as ECA does (3 for 64, 5 for 128 to 1024).
        local_weight: w, from 0 to 1.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: both gates are 2·σ(z) and both convolutions start at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``.

    Paper:
        MLCA (Engineering Applications of Artificial Intelligence 123, 106442); official code: wandahangFY/MLCA,
        ``MLCA.py``: convolutions without bias, padded with zeros, PyTorch's initial values. At the start y is about
        ½ x.

    Deviations from the official code: none in the formula. Sides that 5 does not divide can be exported to ONNX: the
        averages are products with matrices here.

    Raises:
        WhatwhereError: an even kernel, an unknown gate, ``channels`` or ``local_size`` below 1, a ``local_weight``
            below 0 or above 1, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.MLCA(64).gates(torch.rand(2, 64, 7, 7)).full.shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        local_size: int = 5,
        kernel_size: int | None = None,
        local_weight: float = 0.5,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.local_size = check_count("local_size", local_size)
        if kernel_size is None:
            whole = int((math.log2(channels) + 1) / 2)
            kernel_size = whole + 1 - whole % 2
        check_odd("kernel_size", kernel_size)
        if isinstance(local_weight, bool) or not isinstance(local_weight, (int, float)) or not 0 <= local_weight <= 1:
            raise WhatwhereError(f"local_weight must be a number from 0 to 1, got {local_weight!r}")
        self.local_weight = float(local_weight)
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        same: dict[str, Any] = {"padding": kernel_size // 2, "bias": False, "device": device, "dtype": dtype}
        self.conv = nn.Conv1d(1, 1, kernel_size, **same)
        self.conv_local = nn.Conv1d(1, 1, kernel_size, **same)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for conv in (self.conv, self.conv_local):
            conv.reset_parameters()
            if self.identity:
                nn.init.zeros_(conv.weight)

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``kernel_size``."""
        kernel = shapes.get("conv.weight", ())
        return {"kernel_size": kernel[-1]} if len(kernel) == 3 else {}

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``."""
        height, width = x.shape[-2:]
        size = self.local_size
        cells = windows.average(x, windows.adaptive(height, size, x), windows.adaptive(width, size, x))
        line = cells.flatten(2).mT.flatten(1)  # position after position
        local = self.conv_local(line[:, None]).reshape(-1, size * size, self.channels).mT
        whole = self.conv(cells.mean((2, 3))[:, None]).mT
        local, whole = (apply_gate(z, self.gate, self.identity) for z in (local, whole))
        mixed = (whole + self.local_weight * (local - whole)).reshape(-1, self.channels, size, size)
        up = windows.adaptive(size, height, mixed), windows.adaptive(size, width, mixed)
        return Gates(full=windows.average_few(mixed, *up))

    def extra_repr(self) -> str:
        """Say the options."""
        return (
            f"{self.channels}, local_size={self.local_size}, local_weight={self.local_weight}, gate={self.gate!r}, "
            f"identity={self.identity}"
        )
