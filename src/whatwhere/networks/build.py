"""A network by name: one of the small ones here or any of timm's, with attention put in."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from ..errors import WhatwhereError, closest, need
from ..layers import parse
from .small import SMALL, create_small
from .surgery import insert
from .widths import knob


@dataclass(frozen=True)
class ModelConfig:
    """Which network, and which attention in it.

    Attributes:
        name: ``small-resnet``, ``small-resnet-32``, ``small-vgg``, ``small-mobilenet``, or any name of timm's.
        attention: what to insert, such as ``cbam``, ``cbam:paper`` or ``se:reduction=8``; ``none`` for the plain network.
        classes: how many classes it tells apart.
        width: widths of the stages, or a factor on them; None for the network's own.
        pretrained: whether to load timm's weights.
        weights: a checkpoint of the plain network to start from in place of timm's weights, see :func:`whatwhere.load`. Where it tells
            apart another number of classes, the last layer starts anew.

    Raises:
        WhatwhereError: both ``pretrained`` and ``weights``.
    """

    name: str = "small-resnet"
    attention: str = "none"
    classes: int = 10
    width: tuple[int, ...] | float | None = None
    pretrained: bool = False
    weights: str | None = None

    def __post_init__(self) -> None:
        if self.pretrained and self.weights is not None:
            raise WhatwhereError(f"pretrained=True and weights={self.weights!r}: choose one of the two to start from")

    @property
    def trained(self) -> bool:
        """Whether the network starts from weights that were learned before."""
        return self.pretrained or self.weights is not None

    def untrained(self) -> "ModelConfig":
        """Return the same network with random weights."""
        return replace(self, pretrained=False, weights=None)


def build(config: ModelConfig, size: int = 48) -> nn.Module:
    """Build the network of a config for pictures of ``size`` × ``size`` pixels, on the CPU, ready to train.

    Raises:
        WhatwhereError: unknown network or attention, widths that the network does not take, no place for attention, or weights
            that do not exist, cannot be downloaded, or are of another network.

    Example:
        >>> import whatwhere as ww
        >>> model = ww.build(ww.ModelConfig("small-resnet", attention="cbam"), size=48)
    """
    spec = parse(config.attention)
    model = _plain(config)
    if config.weights is not None:
        _start_from(model, config)
    if spec.name != "none":
        picture = torch.zeros(1, 3, size, size)
        insert(model, spec.name, identity=spec.identity, example=picture, **spec.options)
    return model


def _plain(config: ModelConfig) -> nn.Module:
    if config.classes < 1:
        raise WhatwhereError(f"classes={config.classes}: a network needs at least one")
    if config.name in SMALL:
        if config.pretrained:
            raise WhatwhereError(
                f"{config.name} has no pretrained weights: leave pretrained out, or take a network of timm's"
            )
        return create_small(config.name, config.classes) if config.width is None else _with_width(config)
    timm = need("timm", extra="train")
    if not timm.is_model(config.name):
        known = [*SMALL, *timm.list_models()]
        raise WhatwhereError(
            f"unknown network {config.name!r}{closest(config.name, known)}. There are {', '.join(SMALL)}, and timm's: "
            "python -c 'import timm; print(*timm.list_models())'"
        )
    if config.width is not None:
        if config.pretrained:
            raise WhatwhereError(
                "width= with pretrained=True: pretrained weights have their own widths, leave one of them out"
            )
        return _with_width(config)
    try:
        model: nn.Module = timm.create_model(config.name, pretrained=config.pretrained, num_classes=config.classes)
    except Exception as error:
        if not config.pretrained:
            raise
        raise WhatwhereError(
            f"the pretrained weights of {config.name} could not be loaded: {type(error).__name__}: {error}. "
            "timm downloads them from huggingface.co; without a connection, leave pretrained out"
        ) from error
    return model


def _start_from(model: nn.Module, config: ModelConfig) -> None:
    """Load the weights that a config names; all but those of a last layer for other classes must fit."""
    from .checkpoints import load  # which builds networks too

    assert config.weights is not None
    cfg = getattr(model, "pretrained_cfg", None) or {"classifier": "head"}
    heads = cfg["classifier"] if isinstance(cfg["classifier"], (tuple, list)) else (cfg["classifier"],)
    report = load(model, config.weights, strict=False)
    other = [key for key in report.mismatched if not key.startswith(tuple(f"{head}." for head in heads))]
    if other or report.missing or report.unexpected or report.refused:
        raise WhatwhereError(f"{config.weights} does not hold the weights of {config.name}:\n{report.problems()}")


def _with_width(config: ModelConfig) -> nn.Module:
    turn = knob(config.name)
    if turn is None:
        raise WhatwhereError(f"it is not known how to set the widths of {config.name}: leave width out")
    assert config.width is not None
    return turn.make(config.classes, turn.widths(config.width))
