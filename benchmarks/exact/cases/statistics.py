"""Attentions that are made of means, deviations, norms and transforms of the map, with few parameters or none."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

import whatwhere as ww

from ..case import Case, load_by_official_names


def no_tensors(ours: ww.Attention, tensors: Mapping[str, Tensor]) -> None:
    """Load nothing, where there are no parameters."""


def simam(regularisation: float, size: tuple[int, int] = (14, 12)) -> Case:
    """SimAM."""
    return Case(
        "simam",
        "ZjjConan/SimAM",
        "networks/attentions/simam_module.py",
        lambda code: code.simam_module(e_lambda=regularisation),
        {"regularisation": regularisation},
        size=size,
        load=no_tensors,
        title=f"λ {regularisation}, {size[0]} × {size[1]}",
    )


def shuffle(channels: int, groups: int) -> Case:
    """SA-Net's layer. Its file takes the loading of checkpoints from a neighbour."""
    return Case(
        "shuffle",
        "wofmanaf/SA-Net",
        "models/sa_resnet.py",
        lambda code: code.sa_layer(channels, groups),
        {} if groups == 64 else {"groups": groups},
        channels=channels,
        edits={"from utils import load_state_dict": ""},
        title=f"C = {channels}, {groups} groups",
    )


def sge(channels: int, groups: int) -> Case:
    """SGE. Its file imports everything from a neighbour."""
    return Case(
        "sge",
        "implus/PytorchInsight",
        "classification/models/imagenet/resnet_sge.py",
        lambda code: code.SpatialGroupEnhance(groups),
        {} if groups == 64 else {"groups": groups},
        channels=channels,
        edits={"from .common_head import *": "import torch\nimport torch.nn as nn\nfrom torch.nn import Parameter"},
        title=f"C = {channels}, {groups} groups",
    )


def gct(mode: str, after_relu: bool = False) -> Case:
    """GCT, at 256 channels, with a small α, γ and β of either sign."""
    return Case(
        "gct",
        "z-x-yang/GCT",
        "PyTorch/GCT.py",
        lambda code: code.GCT(256, mode=mode, after_relu=after_relu),
        {"mode": mode, "after_relu": after_relu},
        channels=256,
        title=mode + ", after ReLU" * after_relu,
    )


def fca(channels: int, side: int, size: tuple[int, int], frequencies: str, reduction: int = 16) -> Case:
    """FCA: maps averaged to ``side``."""
    return Case(
        "fca",
        "cfzd/FcaNet",
        "model/layer.py",
        lambda code: code.MultiSpectralAttentionLayer(
            channels, side, side, reduction=reduction, freq_sel_method=frequencies
        ),
        {"size": side, "frequencies": frequencies, "reduction": reduction},
        channels=channels,
        size=size,
        title=f"C = {channels}, {frequencies}, {size[0]} × {size[1]} averaged to {side} × {side}",
    )


def own_cosines(case: Case) -> Case:
    """Keep our own cosines where theirs would be loaded, so that the output compares them."""

    def load(ours: ww.Attention, tensors: Mapping[str, Tensor]) -> None:
        buffer = "dct_layer.weight"
        ours.load_official({**tensors, buffer: ours.get_buffer(buffer).clone()})

    return Case(**{**vars(case), "load": load, "title": f"{case.title}, each with its own cosines"})


def ge(learned: str, extent: int, channels: int = 64) -> Case:
    """GE of a whole block of pytorch-GENet, with everything before it taken out: it returns x + x · gate."""

    def build(code: ModuleType) -> nn.Module:
        block: Any = code.GEBlock(
            channels, channels, 1, 14, extent, learned in ("gather", "both"), learned in ("excite", "both")
        )
        for part in ("bn1", "relu1", "conv1", "bn2", "relu2", "conv2"):
            setattr(block, part, nn.Identity())
        return block  # type: ignore[no-any-return]

    options: dict[str, Any] = {"learned": learned, "extent": extent, "bias": False, "relu": False}
    convolves = learned in ("gather", "both")
    return Case(
        "ge",
        "BayesWatch/pytorch-GENet",
        "models/blocks.py",
        build,
        options | ({"size": 14} if convolves and not extent else {}),
        channels=channels,
        size=(14, 14),
        apply=lambda theirs, x: theirs(x) - x,
        load=no_tensors if learned == "nothing" else load_by_official_names,
        title=f"{learned}, extent {extent}",
    )


CASES = [
    simam(1e-4),
    simam(0.1, (7, 7)),
    shuffle(128, 64),
    shuffle(256, 64),
    shuffle(64, 8),
    sge(64, 64),
    sge(256, 64),
    sge(64, 8),
    Case(
        "srm",
        "hyunjaelee410/style-based-recalibration-module",
        "models/recalibration_modules.py",
        lambda code: code.SRMLayer(64),
        size=(6, 4),  # on larger maps of random numbers all deviations are about 1, and rounding counts in their norm
    ),
    gct("l2"),
    gct("l1"),
    gct("l1", after_relu=True),
    *(fca(256, 7, (14, 12), name) for name in ("top16", "top1", "top32", "low16", "bot32")),
    fca(64, 14, (14, 14), "top16", reduction=4),
    fca(64, 28, (28, 28), "low8"),
    own_cosines(fca(64, 7, (7, 7), "bot8")),
    ge("nothing", 0),
    *(ge(learned, extent) for extent in (0, 2, 4, 8) for learned in ("gather", "both")),
    ge("excite", 0),
]
