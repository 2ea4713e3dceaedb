"""A network as a config says: built, started from weights, with attention inserted."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..errors import WhatwhereError
from ..layers import parse
from ..layers.ghost_conv import GhostConv
from ..networks.build import ModelConfig, build_plain
from ..surgery.ghostify import ghostify
from ..surgery.insert import insert
from .loading import load


def build(config: ModelConfig, size: int = 48, images: Callable[[], Any] | None = None) -> nn.Module:
    """Build the network of a config for images of ``size`` × ``size`` pixels, on the CPU, ready to train.

    Args:
        config: which network.
        size: side of the images.
        images: called for images, as ``data`` of :func:`whatwhere.ghostify`, where ghost convolutions are to be fitted
            to maps.

    Raises:
        WhatwhereError: unknown network or attention, widths that the network does not take, no site for attention, or
            weights that do not exist, cannot be downloaded, or are of another network; no images for a fit to maps.

    Example:
        >>> import whatwhere as ww
        >>> model = ww.build(ww.ModelConfig("small-resnet", attention="cbam"), size=48)
    """
    spec = parse(config.attention)
    model = build_plain(config)
    if config.weights is not None:
        _start_from(model, config)
    image = torch.zeros(1, 3, size, size)
    if config.ghost_config is not None:
        _put_ghosts(model, config, image, images)
    if spec.name != "none":
        insert(model, spec.name, identity=spec.identity, example=image, **spec.options)
    return model


def _put_ghosts(model: nn.Module, config: ModelConfig, image: torch.Tensor, images: Callable[[], Any] | None) -> None:
    """Put ghost convolutions in, fitted where there is something learned to fit them to."""
    assert config.ghost_config is not None
    ratio, start = config.ghost_config
    if not config.trained or start == "random":
        ghostify(model, ratio, start="random", example=image, seconds=0)
        for ghost in [module for module in model.modules() if isinstance(module, GhostConv)]:
            if start != "random":  # the form of those that were fitted, for their weights from a checkpoint
                ghost.order = torch.arange(ghost.outputs)
        return
    if start == "maps" and images is None:
        raise WhatwhereError(
            f"ghost={config.ghost!r} fits ghost convolutions to maps of images: give images=, or say ghost="
            f"'{ratio}:weights'"
        )
    ghostify(model, ratio, data=images() if images and start == "maps" else None, example=image, seconds=0)


def _start_from(model: nn.Module, config: ModelConfig) -> None:
    """Load the weights that a config names; all but those of a last layer for other classes must fit."""
    assert config.weights is not None
    cfg = getattr(model, "pretrained_cfg", None) or {"classifier": "head"}
    heads = cfg["classifier"] if isinstance(cfg["classifier"], (tuple, list)) else (cfg["classifier"],)
    report = load(model, config.weights, strict=False)
    other = [key for key in report.mismatched if not key.startswith(tuple(f"{head}." for head in heads))]
    if other or report.missing or report.unexpected or report.refused:
        raise WhatwhereError(f"{config.weights} does not hold the weights of {config.name}:\n{report.problems()}")
