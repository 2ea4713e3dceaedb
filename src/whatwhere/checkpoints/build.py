"""A network as a config says: built, started from weights, with attention inserted."""

import torch
from torch import nn

from ..errors import WhatwhereError
from ..layers import parse
from ..networks.build import ModelConfig, build_plain
from ..surgery.insert import insert
from .loading import load


def build(config: ModelConfig, size: int = 48) -> nn.Module:
    """Build the network of a config for images of ``size`` × ``size`` pixels, on the CPU, ready to train.

    Raises:
        WhatwhereError: unknown network or attention, widths that the network does not take, no site for attention, or
            weights that do not exist, cannot be downloaded, or are of another network.

    Example:
        >>> import whatwhere as ww
        >>> model = ww.build(ww.ModelConfig("small-resnet", attention="cbam"), size=48)
    """
    spec = parse(config.attention)
    model = build_plain(config)
    if config.weights is not None:
        _start_from(model, config)
    if spec.name != "none":
        image = torch.zeros(1, 3, size, size)
        insert(model, spec.name, identity=spec.identity, example=image, **spec.options)
    return model


def _start_from(model: nn.Module, config: ModelConfig) -> None:
    """Load the weights that a config names; all but those of a last layer for other classes must fit."""
    assert config.weights is not None
    cfg = getattr(model, "pretrained_cfg", None) or {"classifier": "head"}
    heads = cfg["classifier"] if isinstance(cfg["classifier"], (tuple, list)) else (cfg["classifier"],)
    report = load(model, config.weights, strict=False)
    other = [key for key in report.mismatched if not key.startswith(tuple(f"{head}." for head in heads))]
    if other or report.missing or report.unexpected or report.refused:
        raise WhatwhereError(f"{config.weights} does not hold the weights of {config.name}:\n{report.problems()}")
