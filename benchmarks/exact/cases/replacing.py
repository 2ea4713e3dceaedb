"""Attentions that take the place of a convolution, and large kernels as gates."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..case import Case

SPLAT = "zhanghang1989/ResNeSt", "resnest/torch/models/splat.py"
EPSA = "murufeng/EPSANet", "models/epsanet.py"
PARNET = "imankgoyal/NonDeepNetworks", "imagenet/timm/models/simplenet_impl/repvgg.py"
VAN = "Visual-Attention-Network/VAN-Classification", "models/van.py"
SEPARABLE = "StevenLauHKHK/Large-Separable-Kernel-Attention", "models/van.py"
LSKNET = "zcablii/LSKNet", "mmrotate/models/backbones/lsknet.py"


def stand_in(name: str, **contents: Any) -> ModuleType:
    """Return a module with the names that an official file imports and that no part of an attention needs."""
    module = ModuleType(name)
    module.__dict__.update(contents)
    return module


def registering(function: Any) -> Any:
    """Return what a registry's decorator is put on."""
    return function


TIMM = {
    "timm.models.layers": stand_in("timm.models.layers", DropPath=None, to_2tuple=None, trunc_normal_=None),
    "timm.models.layers.drop": stand_in("timm.models.layers.drop", drop_path=None, drop_block_fast_2d=None),
    "timm.models.registry": stand_in("timm.models.registry", register_model=registering),
    "timm.models.vision_transformer": stand_in("timm.models.vision_transformer", _cfg=lambda **options: options),
    "tqdm": stand_in("tqdm"),
}


class Registry:
    """Stands for a registry of mmcv."""

    def register_module(self) -> Callable[[Any], Any]:
        """Return a decorator."""
        return registering


MMCV = {
    "mmcv": stand_in("mmcv"),
    "mmcv.cnn": stand_in("mmcv.cnn", build_norm_layer=None),
    "mmcv.cnn.utils": stand_in("mmcv.cnn.utils"),
    "mmcv.cnn.utils.weight_init": stand_in(
        "mmcv.cnn.utils.weight_init", constant_init=None, normal_init=None, trunc_normal_init=None
    ),
    "mmcv.runner": stand_in("mmcv.runner", BaseModule=nn.Module),
    "builder": stand_in("builder", ROTATED_BACKBONES=Registry()),
}


def sk(channels: int, **options: Any) -> Callable[[ModuleType], nn.Module]:
    """Return what builds timm's module as SKNet has it, in Caffe."""

    def build(code: ModuleType) -> nn.Module:
        settings = {"groups": 32, "rd_channels": max(channels // 16, 32), "split_input": False, **options}
        module: nn.Module = code.SelectiveKernel(channels, **settings)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 0.05
        return module

    return build


def splat(channels: int, **options: Any) -> Callable[[ModuleType], nn.Module]:
    """Return what builds split attention as ResNeSt does."""

    def build(code: ModuleType) -> nn.Module:
        settings = {"padding": 1, "bias": False, "norm_layer": nn.BatchNorm2d, **options}
        module: nn.Module = code.SplAtConv2d(channels, channels, 3, **settings)
        return module

    return build


def averaged(theirs: nn.Module, x: Tensor) -> Tensor:
    """Put ResNeSt's average behind the convolution, as its bottleneck does."""
    return F.avg_pool2d(theirs(x), 3, 2, 1)


def averaged_first(theirs: nn.Module, x: Tensor) -> Tensor:
    """Put it before the convolution."""
    y: Tensor = theirs(F.avg_pool2d(x, 3, 2, 1))
    return y


def selective(channels: int, options: dict[str, Any], **there: Any) -> Case:
    """Return a case of SK beside timm."""
    title = ", ".join(f"{name} {value}" for name, value in options.items())
    build = sk(channels, **there)
    return Case("sk", "timm", "timm.layers.selective_kernel", build, options, channels, title=f"C {channels} {title}")


def split(channels: int, title: str = "", apply: Any = None, **options: Any) -> Case:
    """Return a case of split attention; the options are ours."""
    there = {"radix": options.get("radix", 2), "groups": options.get("cardinality", 1)}
    extra = {} if apply is None else {"apply": apply}
    return Case("splat", *SPLAT, splat(channels, **there), options, channels, title=f"C {channels} {title}", **extra)


def pyramid(channels: int, title: str, options: dict[str, Any], **there: Any) -> Case:
    """Return a case of EPSA."""

    def build(code: ModuleType) -> nn.Module:
        module: nn.Module = code.PSAModule(channels, channels, **there)
        return module

    beside = ("models/SE_weight_module.py",)
    return Case("epsa", *EPSA, build, options, channels, title=f"C {channels} {title}", beside=beside)


def parnet(channels: int, title: str, options: dict[str, Any], activation: nn.Module, stride: int = 1) -> Case:
    """Return a case of ParNet's block."""

    def build(code: ModuleType) -> nn.Module:
        module: nn.Module = code.RepVGGBlock(
            channels, channels, 3, stride, padding=1, avg_pool=True, se_block=True, activation=activation
        )
        return module

    beside = ("imagenet/timm/models/simplenet_impl/utils.py",)
    return Case("parnet", *PARNET, build, options, channels, title=title, beside=beside, imports=TIMM)


def separable(size: int) -> Case:
    """Return a case of LSKA."""

    def build(code: ModuleType) -> nn.Module:
        module: nn.Module = code.LSKA(48, size)
        return module

    return Case("lska", *SEPARABLE, build, {"kernel_size": size}, 48, title=f"kernel {size}", imports=TIMM)


def selecting(channels: int) -> Case:
    """Return a case of LSK."""

    def build(code: ModuleType) -> nn.Module:
        module: nn.Module = code.LSKblock(channels)
        return module

    edits = {"from ..builder import": "from builder import"}
    return Case("lsk", *LSKNET, build, {}, channels, title=f"C {channels}", edits=edits, imports={**TIMM, **MMCV})


CASES = [
    selective(64, {}),
    selective(1024, {}),
    selective(64, {"stride": 2}, stride=2),
    selective(48, {"groups": 16, "hidden": 24}, groups=16, rd_channels=24),
    selective(64, {"kernels": (3, 5, 7), "dilated": False}, kernel_size=[3, 5, 7], keep_3x3=False),
    split(64),
    split(256),
    split(64, "radix 1", radix=1),
    split(96, "radix 4, cardinality 2", radix=4, cardinality=2),
    split(64, "radix 1, cardinality 2", radix=1, cardinality=2),
    split(64, "stride 2", averaged, stride=2),
    split(64, "stride 2, average first", averaged_first, stride=2, pool_first=True),
    pyramid(64, "", {}),
    pyramid(256, "", {}),
    pyramid(64, "stride 2", {"stride": 2}, stride=2),
    pyramid(
        128,
        "other kernels",
        {"kernels": (1, 3, 3, 5), "groups": (2,) * 4},
        conv_kernels=[1, 3, 3, 5],
        conv_groups=[2] * 4,
    ),
    parnet(64, "", {}, nn.SiLU()),
    parnet(40, "ReLU", {"activation": "relu"}, nn.ReLU()),
    parnet(64, "stride 2", {"stride": 2}, nn.SiLU(), 2),
    Case("lka", *VAN, lambda code: code.LKA(64), imports=TIMM),
    *(separable(size) for size in (7, 11, 23, 35, 41, 53)),
    selecting(64),
    selecting(33),
]
