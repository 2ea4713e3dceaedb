"""Names of the package efficientnet-pytorch, for timm's EfficientNets, and two differences in what they compute."""

import re
from collections.abc import Container, Mapping
from typing import Any

from torch import Tensor, nn

from ..renamers import Renamed, renamer

_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_COMMON = {"_depthwise_conv": "conv_dw", "_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_WIDENING = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
_PLAIN = {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(.+)")


@renamer("efficientnet-pytorch", title="efficientnet-pytorch's names")
def rename_efficientnet(model: nn.Module, wanted: Container[str], tensors: Mapping[str, Tensor]) -> Renamed:
    """Give the tensors of the package efficientnet-pytorch the names that they have in timm."""
    blocks = [
        f"blocks.{stage}.{block}" for stage, many in _children(model, "blocks") for block, _ in many.named_children()
    ]
    widening = {m[1] for key in tensors if (m := _BLOCK.fullmatch(key)) and m[2] == "_expand_conv"}
    new = {}
    for key in tensors:
        if match := _BLOCK.fullmatch(key):
            number, part, leaf = match.groups()
            parts = _COMMON | (_WIDENING if number in widening else _PLAIN)
            name = f"{blocks[int(number)]}.{parts.get(part, part)}.{leaf}" if int(number) < len(blocks) else key
        else:
            part, _, leaf = key.partition(".")
            name = f"{_ENDS.get(part, part)}.{leaf}"
        if name != key and name in wanted:
            new[key] = name
    stem = "_conv_stem.weight" in new
    rest = {key: tensor for key, tensor in tensors.items() if not stem or key not in new}
    renamed = {name: tensors[key] for key, name in new.items()} if stem else {}
    return Renamed(renamed, rest, _differences(model) if stem else [])


def _children(model: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    return list(getattr(model, name, nn.Module()).named_children())


def _differences(model: Any) -> list[str]:
    """Say how a network differs from TensorFlow's padding and epsilon, with which these weights were trained."""
    same, eps = type(model.conv_stem).__name__ == "Conv2dSame", getattr(model.bn1, "eps", None)
    if same and eps == 1e-3:
        return []
    return [
        "these weights are for TensorFlow's padding and a batch normalisation with eps=0.001: take timm's network "
        "whose name begins with tf_ (tf_efficientnet_b0 for efficientnet_b0)"
    ]
