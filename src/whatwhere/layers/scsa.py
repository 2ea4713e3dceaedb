"""SCSA, spatial and channel synergistic attention."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..errors import WhatwhereError
from . import windows
from .attention import GatedAttention, Gates
from .checks import check_choice, check_count, check_flag, check_multiple, check_odd, largest_divisor
from .gate import apply_gate, check_gate
from .key_map import KeyMap, Shapes
from .norm import GroupNorm
from .registry import register

_LINES = ("local_dwc", "global_dwc_s", "global_dwc_m", "global_dwc_l")
_PARTS = (*_LINES, "norm_h", "norm_w", "norm", "q", "k", "v")


@register(
    "scsa",
    title="spatial and channel synergistic attention",
    paper="SCSA, 2024, arXiv 2407.05128",
    code="https://github.com/HZAI-ZJNU/SCSA",
    formula="rows · columns · σ(avg(softmax(q kᵀ/√d) v)), rows = σ(GN(conv1d₃₅₇₉(avg over W)))",
    kind="line",
    channel_divisor=4,
    key_maps=(KeyMap("the official SCSA code", {part: part for part in _PARTS}, options={"gate": "sigmoid"}),),
)
class SCSA(GatedAttention):
    r"""Gates of rows and columns with four kernel sizes, then a channel gate from self-attention between channels.

    .. math::
        r &= \sigma\big(GN_4(conv1d_{3,5,7,9}(avg_W(x)))\big), \qquad
        t = \sigma\big(GN_4(conv1d_{3,5,7,9}(avg_H(x)))\big) \\
        u &= GN_1\big(avg_{7 \times 7}(x \cdot r \cdot t)\big) \\
        c &= \sigma\big(avg(\operatorname{softmax}(q(u)\, k(u)^T / \sqrt{d})\; v(u))\big), \qquad
        y = x \cdot r \cdot t \cdot c

    Each quarter of the channels has a depthwise convolution along the line with one of the four kernels, the same one
    for rows and columns. q, k and v multiply each channel by a number. The softmax is over the d = C / heads channels
    of a head, the average over the windows.

    Args:
        channels: C of the maps, a multiple of 4.
        heads: of the self-attention between channels; they must divide C.
        kernel_sizes: of the four convolutions, odd.
        window_size: side of the windows that are averaged, side by side; None averages the whole map.
        pool: of the windows: ``avg``, or ``max``, with which ``torch.export`` takes fixed sides only.
        bias: whether q, k and v have biases.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gates are 2·σ(z), and weight and bias of both GN₄ and of v start
            at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: channel ``(N, C, 1, 1)``, and full ``(N, C, H, W)``, the product of
        rows ``(N, C, H, 1)`` and columns ``(N, C, 1, W)``.

    Paper:
        SCSA (arXiv 2407.05128); official code: HZAI-ZJNU/SCSA, ``mmpretrain/models/attentions/SCSA.py``: PyTorch's
        initial values. Its ResNet has one head, and the module after the ReLU of the second normalisation of a block.
        At the start y is about ⅛ x.

    Deviations from the official code: a window larger than the map is cut to it, where the code raises on maps below
        7 × 7. Channels that are no multiple of 4 raise when the module is built; the check of the official code
        accepts all from 4. Groups of one value are normalised to 0. Dropout, gates by softmax and
        ``down_sample_mode="recombination"`` (which calls a method that the official class does not have) are not here,
        and its unused ``act_cfg``, ``norm_cfg`` and ``fuse_bn`` neither.

    Memory: N · C² / heads numbers for the self-attention between channels.

    Raises:
        WhatwhereError: channels that are no multiple of 4 or that the heads do not divide, other than four odd kernels,
            an unknown pool or gate, a count below 1, ``bias`` or ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.SCSA(64).gates(torch.rand(2, 64, 14, 14)).channel.shape
        torch.Size([2, 64, 1, 1])
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 1,
        kernel_sizes: Sequence[int] = (3, 5, 7, 9),
        window_size: int | None = 7,
        pool: str = "avg",
        bias: bool = False,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_multiple("channels", channels, 4, "one part for each of the four kernels"))
        if channels % check_count("heads", heads):
            raise WhatwhereError(
                f"heads must divide the {channels} channels, got {heads}: take {largest_divisor(channels, heads)}"
            )
        self.heads = heads
        self.kernel_sizes = tuple(check_odd("kernel_sizes", size) for size in kernel_sizes)
        if len(self.kernel_sizes) != 4:
            raise WhatwhereError(f"kernel_sizes must be four odd numbers, got {kernel_sizes!r}")
        self.window_size = None if window_size is None else check_count("window_size", window_size)
        self.pool = check_choice("pool", pool, ("avg", "max"))
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        for name, size in zip(_LINES, self.kernel_sizes, strict=True):
            part = channels // 4
            self.add_module(name, nn.Conv1d(part, part, size, padding=size // 2, groups=part, **factory))
        self.norm_h = GroupNorm(4, channels, **factory)
        self.norm_w = GroupNorm(4, channels, **factory)
        self.norm = GroupNorm(1, channels, **factory)
        each: dict[str, Any] = {"groups": channels, "bias": check_flag("bias", bias), **factory}
        self.q = nn.Conv2d(channels, channels, 1, **each)
        self.k = nn.Conv2d(channels, channels, 1, **each)
        self.v = nn.Conv2d(channels, channels, 1, **each)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for layer in self.children():
            assert isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.GroupNorm))
            layer.reset_parameters()
        if self.identity:
            for last in (self.norm_h, self.norm_w, self.v):
                for parameter in last.parameters():
                    nn.init.zeros_(parameter)

    def settings(self) -> dict[str, Any]:
        """Return the value of every option, the kernels as a tuple."""
        return {**super().settings(), "kernel_sizes": self.kernel_sizes}

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``kernel_sizes`` and ``bias``."""
        kernels = [shapes[f"{name}.weight"] for name in _LINES if f"{name}.weight" in shapes]
        found: dict[str, Any] = {"kernel_sizes": tuple(k[-1] for k in kernels)} if len(kernels) == 4 else {}
        return {**found, "bias": True} if "q.bias" in shapes else found

    def line_gate(self, means: Tensor, norm: nn.GroupNorm) -> Tensor:
        """Return the gate of rows or columns: averages ``(N, C, L)`` → ``(N, C, L)``.

        The four convolutions are one, their kernels padded with zeros to the longest.
        """
        longest = max(self.kernel_sizes)
        sides = [(longest - size) // 2 for size in self.kernel_sizes]
        weight = torch.cat(
            [F.pad(self.get_parameter(f"{n}.weight"), (s, s)) for n, s in zip(_LINES, sides, strict=True)]
        )
        bias = torch.cat([self.get_parameter(f"{n}.bias") for n in _LINES])
        z = F.conv1d(means, weight, bias, padding=longest // 2, groups=self.channels)
        return apply_gate(norm(z), self.gate, self.identity)

    def cells(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return one number for each channel and window, ``(N, C, windows)``, and 1 for each window that has inputs."""
        height, width = u.shape[-2:]
        if self.window_size is not None and self.pool == "avg":
            rows, columns = (windows.strided(side, self.window_size, u) for side in (height, width))
            return windows.average(u, rows, columns).flatten(2), (rows.amax(1)[:, None] * columns.amax(1)).flatten()
        if self.window_size is not None:
            cells = F.max_pool2d(u, (min(self.window_size, height), min(self.window_size, width))).flatten(2)
        else:
            rows = u.flatten(2)
            cells = rows.mean(2, keepdim=True) if self.pool == "avg" else rows.amax(2, keepdim=True)
        return cells, cells.new_ones(cells.shape[2])

    def channel_gate(self, u: Tensor) -> Tensor:
        """Return the channel gate ``(N, C, 1, 1)`` of the map times the gates of its lines.

        q, k and v are products with one number a channel; the average over windows follows v directly, as it is linear.
        """
        cells, mask = self.cells(u)
        cells = cells.to(torch.promote_types(cells.dtype, torch.float32))
        mask = mask.to(cells.dtype)
        shares = mask / mask.sum()
        mean = ((cells * shares).sum(2) / self.channels).sum(1)[:, None, None]
        variance = (((cells - mean).square() * shares).sum(2) / self.channels).sum(1)[:, None, None]
        normal = (cells - mean) / (variance + self.norm.eps).sqrt()
        normal = normal * self.norm.weight[:, None] + self.norm.bias[:, None]
        width = self.channels // self.heads
        v = (_scale(normal, self.v) * shares).sum(2, keepdim=True)
        values = (_scale(normal, self.q), _scale(normal, self.k) * mask, v)
        q, k, v = (u.reshape(-1, self.heads, width, u.shape[2]) for u in values)
        z = F.scaled_dot_product_attention(q, k, v, scale=width**-0.5)
        return apply_gate(z.flatten(1)[:, :, None, None], self.gate, self.identity)

    def gates(self, x: Tensor) -> Gates:
        """Return the channel gate ``(N, C, 1, 1)``, and the product of rows and columns as the full gate."""
        rows, columns = self.line_gate(x.mean(3), self.norm_h), self.line_gate(x.mean(2), self.norm_w)
        full = rows[..., None] * columns[:, :, None]
        return Gates(channel=self.channel_gate(ops.apply_gates(x, None, None, full)), full=full)

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, heads={self.heads}, gate={self.gate!r}, identity={self.identity}"


def _scale(cells: Tensor, conv: nn.Conv2d) -> Tensor:
    """Return the depthwise 1×1 convolution of ``(N, C, windows)``."""
    scaled = cells * conv.weight[:, 0, 0]
    return scaled if conv.bias is None else scaled + conv.bias[:, None]
