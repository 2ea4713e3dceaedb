"""SE, squeeze and excitation."""

from typing import Any

from .channel import ChannelAttention
from .key_map import KeyMap, dense
from .registry import register

_LAYERS = {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}
_OPTIONS = {"gate": "sigmoid", "activation": "relu", "pools": ("avg",)}


@register(
    "se",
    title="squeeze and excitation",
    paper="SENet, CVPR 2018, arXiv 1709.01507",
    code="https://github.com/hujie-frank/SENet",
    formula="c = σ(W₂ ReLU(W₁ avg(x)))",
    kind="channel",
    is_excitation=True,
    key_maps=(
        KeyMap("timm's SE", _LAYERS, r"(?P<block>.+)\.se", options=_OPTIONS, convert=dense),
        KeyMap("SE called se_module", _LAYERS, r"(?P<block>.+)\.se_module", options=_OPTIONS, convert=dense),
        KeyMap(
            "SE with fc.0 and fc.2",
            {"fc.0": "mlp.fc1", "fc.2": "mlp.fc2"},
            r"(?P<block>.+)\.se",
            options=_OPTIONS,
            convert=dense,
        ),
        # The networks of the last two have either gate function, and their checkpoints do not say which.
        KeyMap(
            "timm's SE in MobileNetV3 and EfficientNet",
            {"conv_reduce": "mlp.fc1", "conv_expand": "mlp.fc2"},
            r"(?P<block>.+)\.se",
            where="itself",
            options={"pools": ("avg",)},
            convert=dense,
        ),
        KeyMap(
            "torchvision's SE in MobileNetV3 and EfficientNet",
            _LAYERS,
            r"(?P<block>features\.\d+(?:\.\d+)?\.block)\.\d+",
            where="itself",
            options={"pools": ("avg",)},
            convert=dense,
        ),
    ),
)
class SE(ChannelAttention):
    r"""Squeeze and excitation: channel attention ("what") from the average of each channel.

    .. math:: c = \sigma\big(W_2\, ReLU(W_1\, avg(x) + b_1) + b_2\big), \qquad y = x \cdot c

    Args:
        channels: C of the maps.
        reduction: r; the hidden width is max(1, C // r).
        hidden: the hidden width itself, in place of C // r.
        activation: between the two layers: ``relu`` (the paper), ``silu`` as in EfficientNet, ``gelu``, ``hard_swish``
            or ``relu6``.
        bias: whether the two layers have biases.
        gate: ``sigmoid``, or ``hard_sigmoid`` as in MobileNetV3 and GhostNet.
        identity: start with every gate exactly 1: the gate is 2·σ(z) and the last layer starts at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: channel ``(N, C, 1, 1)``.

    Paper:
        Squeeze-and-Excitation Networks (arXiv 1709.01507), equations 2 to 4; official code: hujie-frank/SENet (Caffe).

    Deviations from the official code: none but the hidden width, which is at least 1. The paper's formula leaves the
    biases out (``bias=False``); the official networks have them, like torchvision's and timm's, and so has the default
    here.

    Raises:
        WhatwhereError: an unknown gate or activation, ``channels``, ``reduction`` or ``hidden`` below 1,
            ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.SE(64, reduction=4).gates(torch.rand(2, 64, 7, 7)).channel.shape
        torch.Size([2, 64, 1, 1])
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        hidden: int | None = None,
        activation: str = "relu",
        bias: bool = True,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            channels,
            reduction=reduction,
            hidden=hidden,
            activation=activation,
            pools="avg",
            bias=bias,
            gate=gate,
            identity=identity,
            device=device,
            dtype=dtype,
        )
