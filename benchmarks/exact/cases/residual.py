"""Attentions that add to the map."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..case import Case

_GCNET = "xvjiarui/GCNet", "mmdet/ops/gcb/context_block.py"
_CONTEXT = "open-mmlab/mmcv", "mmcv/cnn/bricks/context_block.py"
_NON_LOCAL = "open-mmlab/mmcv", "mmcv/cnn/bricks/non_local.py"
_CRISS_CROSS = "open-mmlab/mmcv", "mmcv/ops/cc_attention.py"
_ALEXHEX7 = "AlexHex7/Non-local_pytorch"
_DANET = "junfu1115/DANet", "encoding/nn/da_att.py"
_CCNET = "speedinghzl/CCNet", "cc_attention/functions.py"
_A2 = "nguyenvo09/Double-Attention-Network", "double_attention_layer.py"


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(contents)
    return module


class _Registry:
    """In place of OpenMMLab's registry, which their files put their classes in."""

    def register_module(self) -> Any:
        """Return a decorator that does nothing."""
        return lambda cls: cls


class _ConvModule(nn.Module):
    """In place of mmcv's: a convolution, a normalisation, an activation, by its names."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = None,
        bias: bool | None = None,
        conv_cfg: Any = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.norm_cfg = norm_cfg
        self.conv = nn.Conv2d(inputs, outputs, bias=norm_cfg is None if bias is None else bias, **options)
        if norm_cfg is not None:
            self.bn = nn.BatchNorm2d(outputs)
        self.active = act_cfg is not None

    @property
    def norm(self) -> nn.Module:
        """The normalisation."""
        return self.bn

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise, activate."""
        x = self.conv(x)
        x = x if self.norm_cfg is None else self.bn(x)
        return torch.relu(x) if self.active else x


class _Scale(nn.Module):
    """In place of mmcv's: a number to multiply by."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return x * self.scale


def _start(module: nn.Module, *args: Any, **options: Any) -> None:
    """In place of OpenMMLab's ways to start: every value is drawn anew before it is compared."""


_STARTS = dict.fromkeys(("constant_init", "kaiming_init", "normal_init"), _start)
_IMPORTS = {
    "mmengine": _module("mmengine"),
    "mmengine.model": _module("mmengine.model", **_STARTS),
    "mmengine.registry": _module("mmengine.registry", MODELS=_Registry()),
    "mmcv": _module("mmcv"),
    "mmcv.cnn": _module("mmcv.cnn", Scale=_Scale, **_STARTS),
    "conv_module": _module("conv_module", ConvModule=_ConvModule),
}


def _context(
    where: tuple[str, str], title: str, reduction: int, *fusion: str, channels: int = 64, **options: Any
) -> Case:
    pooling = "avg" if options.get("pooling") == "avg" else "att"
    return Case(
        "gc",
        *where,
        lambda code: code.ContextBlock(channels, 1 / reduction, pooling, tuple(f"channel_{f}" for f in fusion)),
        {"reduction": reduction, "fusion": "both" if len(fusion) == 2 else fusion[0], **options},
        channels=channels,
        imports=_IMPORTS,
        title=title,
    )


def _mmcv(title: str, channels: int = 64, size: tuple[int, int] = (14, 12), **options: Any) -> Case:
    theirs = {"use_scale" if k == "scale" else k: v for k, v in options.items() if k != "norm"}
    if options.get("norm"):
        theirs["norm_cfg"] = {"type": "BN"}
    return Case(
        "nonlocal",
        *_NON_LOCAL,
        lambda code: code.NonLocal2d(channels, **theirs),
        options,
        channels=channels,
        size=size,
        edits={
            "from .conv_module import": "from conv_module import",
            # In training, PyTorch does not let the result of a ReLU be divided in place.
            "pairwise_weight /= pairwise": "pairwise_weight = pairwise_weight / pairwise",
        },
        imports=_IMPORTS,
        title=f"mmcv, {title}",
    )


def _alexhex7(mode: str, title: str = "", channels: int = 64, **options: bool) -> Case:
    theirs = {"bn_layer" if k == "norm" else k: v for k, v in options.items()}
    return Case(
        "nonlocal",
        _ALEXHEX7,
        f"lib/non_local_{mode}.py",
        lambda code: code.NONLocalBlock2D(channels, **theirs),
        {"form": "alexhex7", "mode": mode, **options},
        channels=channels,
        title=f"AlexHex7, {mode}{title}",
    )


def _a2(title: str, m: int, n: int, channels: int = 64, *, reconstruct: bool = True) -> Case:
    return Case(
        "a2",
        *_A2,
        lambda code: code.DoubleAttentionLayer(channels, m, n, reconstruct=reconstruct),
        {"width": m, "descriptors": n, "reconstruct": reconstruct, "residual": False},
        channels=channels,
        title=title,
    )


CASES = [
    _context(_GCNET, "add", 16, "add"),
    _context(_GCNET, "mul, ratio 1/4", 4, "mul"),
    _context(_GCNET, "both, ratio 1/4, 36 channels", 4, "add", "mul", channels=36),
    _context(_GCNET, "add, plain mean", 4, "add", pooling="avg"),
    _context(_CONTEXT, "mmcv, both", 8, "add", "mul"),
    _mmcv("embedded_gaussian"),
    _mmcv("embedded_gaussian, sub-sampled, 18 channels, odd sides", channels=18, size=(13, 11), sub_sample=True),
    _mmcv("embedded_gaussian, reduction 4, not scaled, normalised", reduction=4, scale=False, norm=True),
    _mmcv("gaussian", mode="gaussian"),
    _mmcv("gaussian, sub-sampled", mode="gaussian", sub_sample=True),
    _mmcv("dot_product", mode="dot_product"),
    _mmcv("dot_product, sub-sampled", mode="dot_product", sub_sample=True),
    _mmcv("concatenation", mode="concatenation"),
    _alexhex7("embedded_gaussian"),
    _alexhex7("embedded_gaussian", ", 19 channels", channels=19),
    _alexhex7("embedded_gaussian", ", not sub-sampled, not normalised", sub_sample=False, norm=False),
    _alexhex7("gaussian"),
    _alexhex7("dot_product"),
    _alexhex7("concatenation"),
    Case("danet_pam", *_DANET, lambda code: code.PAM_Module(64)),
    Case("danet_pam", *_DANET, lambda code: code.PAM_Module(20), channels=20, size=(9, 17), title="20 channels"),
    Case("danet_cam", *_DANET, lambda code: code.CAM_Module(64)),
    Case("danet_cam", *_DANET, lambda code: code.CAM_Module(7), channels=7, size=(5, 3), title="7 channels"),
    Case("ccnet", *_CCNET, lambda code: code.CrissCrossAttention(64), edits={".cuda()": ""}),
    Case(
        "ccnet",
        *_CCNET,
        lambda code: code.CrissCrossAttention(20),
        {"recurrence": 2},
        channels=20,
        size=(9, 17),
        apply=lambda theirs, x: theirs(theirs(x)),
        edits={".cuda()": ""},
        title="twice, 20 channels",
    ),
    Case("ccnet", *_CRISS_CROSS, lambda code: code.CrissCrossAttention(64), imports=_IMPORTS, title="mmcv"),
    _a2("m = n = C/4", 16, 16),
    _a2("m = C/2, n = C/4, 36 channels", 18, 9, channels=36),
    _a2("without the last convolution", 64, 8, reconstruct=False),
]
