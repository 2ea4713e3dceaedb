"""Attention along rows and columns, across planes and in groups: line gates and full gates."""

from collections import OrderedDict
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from ..case import Case


class ConvModule(nn.Sequential):
    """What mmcv calls so, as far as it is used here: a convolution, then a normalisation and SiLU if asked for.

    The convolution has a bias where nothing normalises. Equal to mmcv's.
    """

    def __init__(self, *args: Any, norm_cfg: Any = None, act_cfg: Any = None, **options: Any) -> None:
        conv = nn.Conv2d(*args, bias=norm_cfg is None, **options)
        layers: dict[str, nn.Module] = {"conv": conv}
        if norm_cfg is not None:
            layers["bn"] = nn.BatchNorm2d(conv.out_channels, eps=norm_cfg["eps"], momentum=norm_cfg["momentum"])
        if act_cfg is not None:
            layers["activate"] = nn.SiLU()
        super().__init__(OrderedDict(layers))


class BaseModule(nn.Module):
    """What mmengine calls so: a module that knows how it is initialised, which nothing here asks it for."""

    def __init__(self, init_cfg: Any = None) -> None:
        super().__init__()


class Backbones:
    """A registry that keeps nothing."""

    def register_module(self) -> Any:
        """Return a decorator that changes nothing."""
        return lambda cls: cls


def module(name: str, **contents: Any) -> ModuleType:
    """Return a module with these contents; a name that is asked for and not there is None."""
    made = ModuleType(name)
    made.__dict__.update(contents)
    return made


def times_gate(theirs: nn.Module, x: Tensor) -> Tensor:
    """Multiply a map by the gates that their module returns."""
    y: Tensor = x * theirs(x)
    return y


MMENGINE = {
    "mmengine": module("mmengine"),
    "mmengine.model": module("mmengine.model", BaseModule=BaseModule, constant_init=None),
    "mmengine.model.weight_init": module("mmengine.model.weight_init", trunc_normal_init=None, normal_init=None),
    "mmengine.logging": module("mmengine.logging", MMLogger=None),
}
PKINET_IMPORTS = {
    **MMENGINE,
    "mmcv": module("mmcv"),
    "mmcv.cnn": module("mmcv.cnn", ConvModule=ConvModule, build_norm_layer=None),
    "mmcv.cnn.bricks": module("mmcv.cnn.bricks", DropPath=nn.Identity),
    "mmrotate": module("mmrotate"),
    "mmrotate.models": module("mmrotate.models"),
    "mmrotate.models.builder": module("mmrotate.models.builder", ROTATED_BACKBONES=Backbones()),
    "mmrotate.models.utils": module(
        "mmrotate.models.utils", autopad=None, make_divisible=None, BCHW2BHWC=None, BHWC2BCHW=None
    ),
}
COORDATT, SCSA = "houqb/CoordAttention", "HZAI-ZJNU/SCSA"
TRIPLET, TRIPLET_FILE = "landskape-ai/triplet-attention", "triplet_attention.py"
PKINET, PKINET_FILE = "NUST-Machine-Intelligence-Laboratory/PKINet", "mmrotate/models/backbones/pkinet.py"
ELA_FILE = "mmpretrain/models/attentions/ELA.py"
SPNET, EMA = "houqb/SPNet", "YOLOonMe/EMA-attention-module"


def ela(options: dict[str, Any], edits: dict[str, str], channels: int, title: str) -> Case:
    """Return a case of ELA; the copy has one size only, and others by an edit of its numbers."""
    return Case(
        "ela",
        SCSA,
        ELA_FILE,
        lambda code: code.ELA(channels, options.get("kernel_size", 7)),
        options,
        channels,
        edits=edits,
        imports=MMENGINE,
        title=title,
    )


def caa(kernels: tuple[int, int], bare: bool, channels: int, title: str) -> Case:
    """Return a case of CAA."""
    options = {"h_kernel_size": kernels[0], "v_kernel_size": kernels[1], "form": "bare" if bare else "plug-in"}
    configurations = (None, None) if bare else ()
    return Case(
        "caa",
        PKINET,
        PKINET_FILE,
        lambda code: code.CAA(channels, *kernels, *configurations),
        options,
        channels,
        apply=times_gate,
        imports=PKINET_IMPORTS,
        title=title,
    )


CASES = [
    Case("coordatt", COORDATT, "coordatt.py", lambda code: code.CoordAtt(64, 64), title="C = 64, r = 32"),
    Case(
        "coordatt",
        COORDATT,
        "coordatt.py",
        lambda code: code.CoordAtt(96, 96, reduction=4),
        {"reduction": 4},
        96,
        title="C = 96, r = 4",
    ),
    Case(
        "coordatt",
        COORDATT,
        "mbv2_ca.py",
        lambda code: code.CoordAtt(320, 320),
        channels=320,
        title="C = 320, of MobileNetV2",
    ),
    Case(
        "coordatt",
        "huggingface/pytorch-image-models",
        "timm/layers/coord_attn.py",
        lambda code: code.CoordAttn(256),
        {"bias": False},
        256,
        edits={"from .": "from timm.layers."},
        title="C = 256, timm's",
    ),
    ela({}, {}, 64, "C = 64, B"),
    ela({"kernel_size": 5, "norm_groups": 32}, {"num_groups=16": "num_groups=32"}, 96, "C = 96, T"),
    ela({"kernel_size": 5, "groups": 12}, {"groups=chans": "groups=chans // 8"}, 96, "C = 96, S"),
    ela({"groups": 8}, {"groups=chans": "groups=chans // 8"}, 64, "C = 64, L"),
    Case("triplet", TRIPLET, TRIPLET_FILE, lambda code: code.TripletAttention(), title="C = 64, k = 7"),
    Case(
        "triplet",
        TRIPLET,
        TRIPLET_FILE,
        lambda code: code.TripletAttention(no_spatial=True),
        {"spatial": False},
        20,
        title="C = 20, without the spatial gate",
    ),
    Case(
        "triplet",
        TRIPLET,
        f"MODELS/{TRIPLET_FILE}",
        lambda code: code.TripletAttention(40),
        {"kernel_size": 3},
        40,
        edits={"kernel_size = 7": "kernel_size = 3"},
        title="C = 40, k = 3, of the networks",
    ),
    Case(
        "strip",
        SPNET,
        "models/resnet.py",
        lambda code: code.SPBlock(64, 64, norm_layer=nn.BatchNorm2d),
        apply=times_gate,
        title="C = 64",
    ),
    Case(
        "strip",
        SPNET,
        "models/resnet.py",
        lambda code: code.SPBlock(24, 24, norm_layer=nn.BatchNorm2d),
        channels=24,
        size=(5, 17),
        apply=times_gate,
        title="C = 24, 5×17",
    ),
    caa((11, 11), False, 64, "C = 64, plug-in"),
    caa((7, 15), False, 40, "C = 40, plug-in, 7 and 15"),
    caa((13, 13), True, 64, "C = 64, bare, 13"),
    Case("ema", EMA, "EMA_attention_module", lambda code: code.EMA(64), title="C = 64, G = 32"),
    Case("ema", EMA, "EMA_attention_module", lambda code: code.EMA(32), channels=32, title="C = 32, G = 32"),
    Case(
        "ema",
        EMA,
        "EMA_attention_module",
        lambda code: code.EMA(96, factor=8),
        {"groups": 8},
        96,
        title="C = 96, G = 8",
    ),
]
