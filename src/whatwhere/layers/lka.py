"""LKA and LSKA: large kernels cut into small ones, as a gate."""

from typing import Any

from torch import Tensor, nn

from ..errors import WhatwhereError
from .attention import GatedAttention, Gates
from .checks import check_count, check_flag, check_odd
from .key_map import KeyMap, Shapes
from .registry import register


class LargeKernelGate(GatedAttention):
    """What LKA and LSKA share: convolutions one behind the other, the last of them the 1×1 convolution ``conv1``."""

    conv1: nn.Conv2d

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for conv in self.convolutions():
            height, width = conv.kernel_size
            fan_out = height * width * conv.out_channels // conv.groups
            nn.init.normal_(conv.weight, std=(2 / fan_out) ** 0.5)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        if self.identity:
            nn.init.zeros_(self.conv1.weight)

    @property
    def neutral(self) -> float:
        """The gate where the convolutions give 0."""
        return 1.0 if self.identity else 0.0

    def convolutions(self) -> list[nn.Conv2d]:
        """Return the convolutions in the order in which they run."""
        return [module for module in self.children() if isinstance(module, nn.Conv2d)]

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``."""
        z = x
        for conv in self.convolutions():
            z = conv(z)
        return Gates(full=1 + z if self.identity else z)

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, identity={self.identity}"


@register(
    "lka",
    title="large kernel attention of VAN",
    paper="Visual Attention Network, CVMJ 2023, arXiv 2202.09741",
    code="https://github.com/Visual-Attention-Network/VAN-Classification",
    formula="f₁ₓ₁(dw₇ₓ₇, dilated(dw₅ₓ₅(x)))",
    kind="full",
    bounded=False,
    key_maps=(
        KeyMap("the official VAN code", {part: part for part in ("conv0", "conv_spatial", "conv1")}),
        KeyMap("mmpretrain's VAN", {"DW_conv": "conv0", "DW_D_conv": "conv_spatial", "conv1": "conv1"}),
    ),
)
class LKA(LargeKernelGate):
    r"""Large kernel attention: a gate from a depthwise, a dilated depthwise and a 1×1 convolution.

    .. math::
        z &= f^{1 \times 1}\big(f^{7 \times 7}_{dw,\, dilation\, 3}(f^{5 \times 5}_{dw}(x))\big) \\
        y &= x \cdot z

    The three see 23 × 23 positions, about what the paper's 21 × 21 convolution does.

    Args:
        channels: C of the maps.
        kernel_size: of the first convolution, odd.
        dilated_kernel_size: of the dilated convolution, odd.
        dilation: of the dilated convolution.
        identity: start with every gate exactly 1: the gate is 1 + z and the last convolution starts at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``, of any size and sign.

    Paper:
        Visual Attention Network (arXiv 2202.09741); official code: Visual-Attention-Network/VAN-Classification,
        ``models/van.py``, class ``LKA``. There it stands between two 1×1 convolutions, with a GELU behind the first and
        the input added to the result, in a block with a layer scale of 0.01. All convolutions have biases, which start
        at 0; weights start normal with a variance of 2/(k²·outputs/groups).

    Deviations: none. The layers around it are left to the caller. There is no sigmoid, so a gate may turn the sign. The
    start is that of the official network, where z has several times the variance of x; with PyTorch's initial values,
    which the class alone has, z is near 0.

    Raises:
        WhatwhereError: an even kernel, a number below 1, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.LKA(64).gates(torch.rand(2, 64, 7, 7)).full.shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 5,
        dilated_kernel_size: int = 7,
        dilation: int = 3,
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        check_odd("kernel_size", kernel_size)
        check_odd("dilated_kernel_size", dilated_kernel_size)
        check_count("dilation", dilation)
        self.identity = check_flag("identity", identity)
        factory = {"device": device, "dtype": dtype}
        self.conv0 = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, **factory)
        self.conv_spatial = nn.Conv2d(
            channels,
            channels,
            dilated_kernel_size,
            padding=dilation * (dilated_kernel_size // 2),
            dilation=dilation,
            groups=channels,
            **factory,
        )
        self.conv1 = nn.Conv2d(channels, channels, 1, **factory)
        self.reset_parameters()

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``kernel_size`` and ``dilated_kernel_size``."""
        first, second = shapes.get("conv0.weight", ()), shapes.get("conv_spatial.weight", ())
        if len(first) != 4 or len(second) != 4:
            return {}
        return {"kernel_size": first[-1], "dilated_kernel_size": second[-1]}


_SIZES = {7: (3, 3, 2), 11: (3, 5, 2), 23: (5, 7, 3), 35: (5, 11, 3), 41: (5, 13, 3), 53: (5, 17, 3)}
"""Kernel size → of the first convolutions, of the dilated ones, dilation."""


@register(
    "lska",
    title="large separable kernel attention",
    paper="LSKA, Expert Systems with Applications 2024, arXiv 2309.01439",
    code="https://github.com/StevenLauHKHK/Large-Separable-Kernel-Attention",
    formula="f₁ₓ₁(dw_kx1, dilated(dw_1xk, dilated(dw₃ₓ₁(dw₁ₓ₃(x)))))",
    kind="full",
    bounded=False,
    key_maps=(
        KeyMap(
            "the official LSKA code",
            {part: part for part in ("conv0h", "conv0v", "conv_spatial_h", "conv_spatial_v", "conv1")},
        ),
    ),
)
class LSKA(LargeKernelGate):
    r"""Large separable kernel attention: LKA with each depthwise convolution cut into a row and a column.

    .. math::
        z &= f^{1 \times 1}\big(f^{m \times 1}_{dw,\, dilation\, d}(f^{1 \times m}_{dw,\, dilation\, d}(
            f^{n \times 1}_{dw}(f^{1 \times n}_{dw}(x))))\big) \\
        y &= x \cdot z

    Args:
        channels: C of the maps.
        kernel_size: of the kernel that is cut, with (n, m, d) as in the official code: 7 (3, 3, 2), 11 (3, 5, 2),
            23 (5, 7, 3), 35 (5, 11, 3), 41 (5, 13, 3) or 53 (5, 17, 3).
        identity: start with every gate exactly 1: the gate is 1 + z and the last convolution starts at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``, of any size and sign.

    Paper:
        LSKA (arXiv 2309.01439); official code: StevenLauHKHK/Large-Separable-Kernel-Attention, ``models/van.py``, class
        ``LSKA``, in VAN in place of LKA. 7 is the default of its classification network; the published weights have
        23. All convolutions have biases, which start at 0; weights start normal with a variance of
        2/(k²·outputs/groups), k² being the kernel's number of positions.

    Deviations: another ``kernel_size`` raises here when the module is made, and in the official code at the first
    map.

    Raises:
        WhatwhereError: another ``kernel_size``, ``channels`` below 1, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.LSKA(64, kernel_size=23).conv_spatial_v.dilation
        (3, 3)
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 7,
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        if check_count("kernel_size", kernel_size) not in _SIZES:
            nearest = min(_SIZES, key=lambda size: abs(size - kernel_size))
            raise WhatwhereError(
                f"kernel_size must be one of {', '.join(map(str, _SIZES))}, got {kernel_size}: take {nearest}"
            )
        self.identity = check_flag("identity", identity)
        first, second, dilation = _SIZES[kernel_size]
        factory = {"device": device, "dtype": dtype}

        def line(size: int, dilation: int, row: bool) -> nn.Conv2d:
            reach = dilation * (size // 2)
            return nn.Conv2d(
                channels,
                channels,
                (1, size) if row else (size, 1),
                padding=(0, reach) if row else (reach, 0),
                dilation=dilation,
                groups=channels,
                **factory,
            )

        self.conv0h, self.conv0v = line(first, 1, True), line(first, 1, False)
        self.conv_spatial_h, self.conv_spatial_v = line(second, dilation, True), line(second, dilation, False)
        self.conv1 = nn.Conv2d(channels, channels, 1, **factory)
        self.reset_parameters()

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``kernel_size``."""
        first, second = shapes.get("conv0h.weight", ()), shapes.get("conv_spatial_h.weight", ())
        if len(first) != 4 or len(second) != 4:
            return {}
        sizes = [size for size, (n, m, _) in _SIZES.items() if (n, m) == (first[-1], second[-1])]
        return {"kernel_size": sizes[0]} if sizes else {}
