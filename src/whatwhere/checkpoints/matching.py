"""Which attention of a network an attention of a checkpoint belongs to, and whether the two are the same formula."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import BAM, CBAM, ECA, Attention, ChannelAttention
from .key_maps import Unit

_KINDS: dict[str, type[Attention]] = {"cbam": CBAM, "bam": BAM, "se": ChannelAttention, "eca": ECA}


def site_of(unit: Unit, there: Mapping[str, Attention], model: nn.Module) -> tuple[str | None, str]:
    """Return the site among a network's attentions where a unit of a checkpoint belongs, or None and why there is none."""
    if unit.name in there:
        return unit.name, ""
    if unit.key_map.where == "itself":
        return None, "it stands inside its block, where the network has no attention of ours"
    if unit.key_map.where == "stage":
        return _stage_end(unit, there, model)
    if not re.fullmatch(r"(?:.*\.)?layer\d+\.\d+", unit.block):
        return None, f"{unit.block} is no block of a ResNet, so where in it the attention stands is not known"
    inside = [site for site in there if site.startswith(f"{unit.block}.")]
    norms = [name for name, m in _children(model, unit.block) if isinstance(m, nn.modules.batchnorm._NormBase)]
    fits = {f"{unit.block}.{name}" for name in (*norms[-1:], "drop_path")}
    return _only(fits, inside, f"at the end of the residual branch of {unit.block}")


def _stage_end(unit: Unit, there: Mapping[str, Attention], model: nn.Module) -> tuple[str | None, str]:
    """Find the attention on what a stage returns: on the stage, on its last block, or on that block's last activation."""
    stage = f"{unit.name[: -len('bam1')]}layer{unit.name[-1]}"
    inside = [site for site in there if site == stage or site.startswith(f"{stage}.")]
    fits = {stage}
    for name, block in _children(model, stage)[-1:]:
        activations = [child for child, m in block.named_children() if isinstance(m, nn.ReLU)]
        fits |= {f"{stage}.{name}", *(f"{stage}.{name}.{child}" for child in activations[-1:])}
    return _only(fits, inside, f"after {stage}")


def _only(fits: set[str], inside: list[str], where: str) -> tuple[str | None, str]:
    if len(inside) == 1 and inside[0] in fits:
        return inside[0], ""
    if inside:
        return None, f"the network's attention is at {', '.join(inside)}, that of the checkpoint alone {where}"
    return None, ""


def _children(model: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    try:
        return list(model.get_submodule(name).named_children())
    except AttributeError:
        return []


def differs(unit: Unit, attention: Attention) -> str:
    """Say in what an attention of the network is another formula than the checkpoint's; an empty string where it is the same."""
    here: Any = attention
    name = unit.key_map.attention
    if not isinstance(here, _KINDS[name]):
        return f"it is {type(here).__name__}, the checkpoint's is {name.upper()}"
    if here.identity:
        return "it was made with identity=True, gates 2·σ(z), and the checkpoint has the paper's form: insert with identity=False"
    kernel = unit.shape("spatial.conv.weight")
    if unit.key_map.swapped and kernel is not None and kernel[1:2] == (1,):
        return "the checkpoint's is timm's light CBAM, which adds the pools up; there is none such here"
    facts: dict[str, tuple[object, object]] = {}
    if unit.key_map.where != "itself":  # those networks have either gate function, and checkpoints do not say which
        facts["gate"] = (here.gate, "sigmoid")
    if isinstance(here, CBAM):
        facts["order"] = (here.order, "channel-spatial")
        if here.channel is not None:
            facts["pools"] = (tuple(sorted(here.channel.pools)), ("avg", "max"))
        if here.spatial is not None:
            facts["spatial_pools"] = (here.spatial.pools, ("max", "avg"))
    elif isinstance(here, BAM):
        facts["combine"] = (here.combine, "product")
        facts["dilation"] = (_dilation(here), 4)
    elif isinstance(here, ChannelAttention):
        facts["pools"] = (here.pools, ("avg",))
    wrong = [
        f"{option}={mine!r} where the checkpoint has {its!r}" for option, (mine, its) in facts.items() if mine != its
    ]
    return f"it has {', '.join(wrong)}" if wrong else ""


def _dilation(attention: nn.Module) -> int:
    """Return the dilation of the 3×3 convolutions."""
    return next(m.dilation[0] for m in attention.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3))


def zeros(unit: Unit, attention: Attention) -> dict[str, Tensor]:
    """Return biases of 0 for dense layers that have biases in the network and none in the checkpoint: the same formula."""
    dense = {name: m for name, m in attention.named_modules() if isinstance(m, nn.Linear) and m.bias is not None}
    if unit.key_map.attention == "bam" or any(f"{name}.bias" in unit.tensors for name in dense):
        return {}
    return {
        f"{name}.bias": torch.zeros(m.out_features) for name, m in dense.items() if f"{name}.weight" in unit.tensors
    }
