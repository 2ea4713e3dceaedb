"""CAA, context anchor attention."""

from collections import OrderedDict
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .attention import GatedAttention, Gates
from .checks import check_choice, check_count, check_flag, check_odd
from .gate import apply_gate, check_gate
from .key_map import KeyMap, Shapes
from .norm import BatchNorm2d
from .registry import register

_DENSE = {f"{layer}.{part}": f"{layer}.{part}" for layer in ("conv1", "conv2") for part in ("conv", "bn")}
_LONG = ("h_conv", "v_conv")


@register(
    "caa",
    title="context anchor attention",
    paper="PKINet, CVPR 2024, arXiv 2403.06258",
    code="https://github.com/NUST-Machine-Intelligence-Laboratory/PKINet",
    formula="σ(f₂(conv₁₁ₓ₁(conv₁ₓ₁₁(f₁(avg₇ₓ₇(x)))))), f = SiLU(BN(conv₁ₓ₁))",
    kind="full",
    # Without a unit: in PKINet the gates of one map multiply another.
    key_maps=(
        KeyMap(
            "the official CAA code",
            {**_DENSE, **{f"{layer}.conv": f"{layer}.conv" for layer in _LONG}},
            options={"gate": "sigmoid"},
        ),
        KeyMap(
            "CAA made of the layers of YOLO code",
            {**_DENSE, **{layer: f"{layer}.conv" for layer in _LONG}},
            options={"gate": "sigmoid", "form": "plug-in"},
        ),
    ),
)
class CAA(GatedAttention):
    r"""Context anchor attention: a gate for every element from averages around it, carried along its row and its
    column.

    .. math::
        z = f_2\big(f^{11 \times 1}_{dw}\big(f^{1 \times 11}_{dw}\big(f_1(avg_{7 \times 7}(x))\big)\big)\big), \qquad
        y = x \cdot \sigma(z)

    where dw says depthwise, with biases. :math:`f_i` is SiLU(BN(conv 1×1)) without bias in the plug-in form, and a 1×1
    convolution with bias alone in the bare form.

    Args:
        channels: C of the maps.
        h_kernel_size: length of the horizontal convolution, odd.
        v_kernel_size: length of the vertical convolution, odd.
        form: ``plug-in``: the defaults of the official class, as everybody uses it behind other layers; ``bare``: as
            the official network builds it.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gate is 2·σ(z), and the last normalisation's weight starts at 0,
            in the bare form the last convolution and its bias.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``.

    Paper:
        PKINet (arXiv 2403.06258); official code: NUST-Machine-Intelligence-Laboratory/PKINet,
        ``mmrotate/models/backbones/pkinet.py``, ``CAA``: BatchNorm2d(eps 1e-3, momentum 0.03), averages over 7 × 7
        positions, zeros of the padding counted. The official network draws its convolutions like PyTorch, with biases
        at 0; so are they here. Gates are near 1/2 at the start, so y is near x/2. In the plug-in form they are never
        below 0.43, because SiLU is never below -0.28 (with ``identity`` never below 0.86). The official network has
        lengths of 11 + 2·(number of the block in its stage, from 0).

    Deviations: the official class returns the gate. In the official network it is taken from the input of a block and
        multiplies the map that the block's convolutions have made; here both are one map. A training batch with one
        value a channel takes the running statistics, where PyTorch's BatchNorm raises.

    Copies: those made of the layers of YOLO code have the eps and momentum that the code sets for its whole network.

    Raises:
        WhatwhereError: an even kernel, an unknown form or gate, ``channels`` below 1, ``identity`` that is neither True
            nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.CAA(64, form="bare").gates(torch.rand(2, 64, 7, 5)).full.shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(
        self,
        channels: int,
        *,
        h_kernel_size: int = 11,
        v_kernel_size: int = 11,
        form: str = "plug-in",
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.form = check_choice("form", form, ("plug-in", "bare"))
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        factory = {"device": device, "dtype": dtype}
        self.conv1 = self._dense(**factory)
        horizontal = (1, check_odd("h_kernel_size", h_kernel_size))
        self.h_conv = self._long(horizontal, (0, h_kernel_size // 2), **factory)
        vertical = (check_odd("v_kernel_size", v_kernel_size), 1)
        self.v_conv = self._long(vertical, (v_kernel_size // 2, 0), **factory)
        self.conv2 = self._dense(**factory)
        self.reset_parameters()

    def _dense(self, **factory: Any) -> nn.Sequential:
        bare = self.form == "bare"
        layers: dict[str, nn.Module] = {"conv": nn.Conv2d(self.channels, self.channels, 1, bias=bare, **factory)}
        if not bare:
            layers |= {"bn": BatchNorm2d(self.channels, eps=1e-3, momentum=0.03, **factory), "act": nn.SiLU()}
        return nn.Sequential(OrderedDict(layers))

    def _long(self, kernel: tuple[int, int], padding: tuple[int, int], **factory: Any) -> nn.Sequential:
        conv = nn.Conv2d(self.channels, self.channels, kernel, padding=padding, groups=self.channels, **factory)
        return nn.Sequential(OrderedDict(conv=conv))

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, BatchNorm2d)):
                module.reset_parameters()
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.identity:
            nn.init.zeros_(self.conv2.get_parameter("conv.weight" if self.form == "bare" else "bn.weight"))

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return the lengths and ``form``."""
        horizontal, vertical = (shapes.get(f"{layer}.conv.weight", ()) for layer in _LONG)
        if len(horizontal) != 4 or len(vertical) != 4:
            return {}
        return {
            "h_kernel_size": horizontal[3],
            "v_kernel_size": vertical[2],
            "form": "plug-in" if "conv1.bn.weight" in shapes else "bare",
        }

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``."""
        context = self.conv1(F.avg_pool2d(x, 7, 1, 3))
        return Gates(full=apply_gate(self.conv2(self.v_conv(self.h_conv(context))), self.gate, self.identity))

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, form={self.form!r}, gate={self.gate!r}, identity={self.identity}"
