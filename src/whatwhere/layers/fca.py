"""FCA, frequency channel attention."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WhatwhereError
from .attention import GatedAttention, Gates
from .checks import check_choice, check_count, check_flag, check_multiple, check_size, hidden_width, largest_divisor
from .gate import apply_gate, check_gate
from .key_map import KeyMap, Shapes
from .mlp import reduction_from
from .moments import wide
from .registry import register

# Pairs of frequencies along the height and the width, on a scale of 7 positions, in the order of the official code.
_PAIRS = {
    "top": "00 01 60 05 02 10 12 40 50 16 30 04 06 03 35 22 46 63 33 53 55 21 61 52 54 32 31 41 23 20 65 13",
    "low": "00 01 10 11 02 20 21 12 22 03 30 40 04 13 31 05 14 23 32 41 50 06 15 24 33 42 51 60 16 25 34 43",
    "bot": "66 14 34 36 26 43 11 24 44 45 56 15 42 62 25 51 64 13 65 20 23 41 31 32 54 52 61 21 55 53 33 63",
}
COUNTS = (1, 2, 4, 8, 16, 32)
FREQUENCIES = tuple(f"{kind}{count}" for kind in _PAIRS for count in COUNTS)
"""The selections of frequencies."""


@register(
    "fca",
    title="frequency channel attention: squeeze-and-excitation on cosine transforms",
    paper="FcaNet, ICCV 2021, arXiv 2012.11879",
    code="https://github.com/cfzd/FcaNet",
    formula="σ(W₂·ReLU(W₁·dct(x))), a cosine frequency for each part of the channels",
    kind="channel",
    key_maps=(
        KeyMap(
            "the official FcaNet code",
            {name: name for name in ("dct_layer", "fc.0", "fc.2")},
            r"(?P<block>.+)\.att",
            options={"gate": "sigmoid"},
        ),
    ),
)
class FCA(GatedAttention):
    r"""Frequency channel attention ("what"): squeeze-and-excitation in which channels are squeezed by cosines.

    .. math::
        s_c = \sum_{h,w} p_{c,h,w}\, B_u(h)\, B_v(w), \qquad
        B_f(i) = \begin{cases} 1 / \sqrt{L} & f = 0 \\
        \sqrt{2 / L}\, \cos\frac{\pi f (i + 1/2)}{L} & f > 0 \end{cases}, \qquad
        y = x \cdot \sigma(W_2\, ReLU(W_1 s))

    where p is the map averaged to ``size`` (as :func:`torch.nn.functional.adaptive_avg_pool2d` does), L the height or
    the width of that, and (u, v) a pair of frequencies, another for each of n equal parts of the channels.

    Args:
        channels: C of the maps.
        size: height and width that maps are averaged to before they are squeezed, a number or a pair, from 7. The gates
            multiply the map itself. 7 is what the authors advise where sizes vary; their ImageNet networks have 56, 28,
            14 and 7, the size of the maps, by stage.
        frequencies: ``top``, ``low`` or ``bot`` and their number n, 1, 2, 4, 8, 16 or 32, such as ``top16``; n must
            divide C. None takes ``top16``, or where 16 does not divide C, the first n of these, n being the largest
            divisor of C below 16. Frequencies are multiplied by the whole part of L/7.
        reduction: r; the hidden width is max(1, C // r).
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gate is 2·σ(z) and the last layer starts at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)`` for every H and W; gates: channel ``(N, C, 1, 1)``.

    Paper:
        FcaNet (arXiv 2012.11879); official code: cfzd/FcaNet, ``model/layer.py``, after the last normalisation of a
        block; no biases. The products of cosines are a buffer, ``dct_layer.weight``, ``(C, *size)``: it is in
        checkpoints, and a checkpoint's own frequencies count, whatever ``frequencies`` says. At the start the output is
        about x/2.

    Deviations from the official code: fewer frequencies where 16 do not divide C, where the official code raises. The
    hidden width is at least 1. A ``size`` below 7 raises, where the official code has the frequency 0 alone. float16
    and bfloat16 maps are summed in float32.

    The part with the frequencies (0, 0) is the average times √(L_h·L_w): 7 times the average at 7 × 7, 56 times at
    56 × 56. So weights fit the ``size`` that they were trained with.

    Raises:
        WhatwhereError: ``size`` below 7, unknown ``frequencies`` or ones whose number does not divide C, an unknown
            gate, ``channels`` or ``reduction`` below 1, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> attention = ww.FCA(64, frequencies="low4")
        >>> attention.dct_layer.weight.shape, attention(torch.randn(2, 64, 20, 15)).shape
        (torch.Size([64, 7, 7]), torch.Size([2, 64, 20, 15]))
    """

    def __init__(
        self,
        channels: int,
        *,
        size: int | tuple[int, int] = 7,
        frequencies: str | None = None,
        reduction: int = 16,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.size = check_size("size", size)
        if min(self.size) < 7:
            raise WhatwhereError(f"size must be at least 7, the scale of the frequencies, got {size}: take 7")
        if frequencies is None:
            kind, count = "top", largest_divisor(channels, 16)
        else:
            kind, count = check_choice("frequencies", frequencies, FREQUENCIES)[:3], int(frequencies[3:])
            check_multiple("channels", channels, count, f"frequencies={frequencies!r} cuts them into parts")
        self.pairs = [(int(pair[0]), int(pair[1])) for pair in _PAIRS[kind].split()[:count]]
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        hidden = hidden_width(channels, reduction)
        factory = {"device": device, "dtype": dtype}
        self.dct_layer = nn.Module()
        self.dct_layer.register_buffer("weight", torch.empty(channels, *self.size, **factory))
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False, **factory),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=False, **factory),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew, and compute the cosines."""
        height, width = self.size
        waves = [torch.outer(_cosines(u, height), _cosines(v, width)) for u, v in self.pairs]
        with torch.no_grad():
            self._cosines.copy_(torch.stack(waves).repeat_interleave(self.channels // len(waves), 0))
        for layer in self.fc[::2]:
            assert isinstance(layer, nn.Linear)
            layer.reset_parameters()
        if self.identity:
            nn.init.zeros_(self.fc[2].get_parameter("weight"))

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``size`` and ``reduction``."""
        found: dict[str, Any] = reduction_from(shapes.get("fc.0.weight"))
        cosines = shapes.get("dct_layer.weight", ())
        if len(cosines) != 3:
            return found
        return {**found, "size": cosines[1] if cosines[1] == cosines[2] else cosines[1:]}

    def settings(self) -> dict[str, Any]:
        """Return the options, the size as a pair."""
        return {**super().settings(), "size": self.size}

    @property
    def _cosines(self) -> Tensor:
        return self.dct_layer.get_buffer("weight")

    def gates(self, x: Tensor) -> Gates:
        """Return the channel gate, ``(N, C, 1, 1)``."""
        squeezed = (wide(F.adaptive_avg_pool2d(x, self.size)) * self._cosines).sum((2, 3))
        z = self.fc(squeezed.to(self.fc[0].get_parameter("weight").dtype))
        return Gates(channel=apply_gate(z[:, :, None, None], self.gate, self.identity))

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, size={self.size}, gate={self.gate!r}, identity={self.identity}"


def _cosines(frequency: int, length: int) -> Tensor:
    """Return B_f at all positions of a side, for a frequency on a scale of 7 positions."""
    f = frequency * (length // 7)
    positions = torch.arange(length, dtype=torch.float64) + 0.5
    waves: Tensor = torch.cos(torch.pi * f * positions / length) * math.sqrt((2 if f else 1) / length)
    return waves
