"""Which attention of a network an attention of a checkpoint belongs to, and whether the two are the same formula."""

import re
from collections.abc import Mapping

from torch import nn

from ..layers import Attention
from .units import Unit


def site_of(unit: Unit, there: Mapping[str, Attention], model: nn.Module) -> tuple[str | None, str]:
    """Return the site of the attention that a unit of a checkpoint belongs to, or None and why there is none."""
    if unit.name in there:
        return unit.name, ""
    if unit.key_map.where == "itself":
        return None, "it is inside its block, where the network has no attention of whatwhere"
    if unit.key_map.where == "stage":
        return _stage_end(unit, there, model)
    if not re.fullmatch(r"(?:.*\.)?layer\d+\.\d+", unit.module):
        return None, f"{unit.module} is no block of a ResNet, so the position of the attention in it is not known"
    inside = [site for site in there if site.startswith(f"{unit.module}.")]
    norms = [name for name, m in _children(model, unit.module) if isinstance(m, nn.modules.batchnorm._NormBase)]
    fits = {f"{unit.module}.{name}" for name in (*norms[-1:], "drop_path")}
    return _only(fits, inside, f"at the end of the residual branch of {unit.module}")


def _stage_end(unit: Unit, there: Mapping[str, Attention], model: nn.Module) -> tuple[str | None, str]:
    """Find the attention on the output of a stage: on the stage, its last block, or that block's last activation."""
    stage = unit.module
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
    """Say why an attention of the network has another formula than the checkpoint's; "" if it has the same.

    Two classes of which one derives from the other may have the same formula; then their settings decide.
    """
    here, theirs = type(attention), unit.entry.cls
    if not (issubclass(here, theirs) or issubclass(theirs, here)):
        return f"it is {here.__name__}, the checkpoint's is {theirs.__name__}"
    return unit.key_map.difference(attention.settings(), unit.shapes)
