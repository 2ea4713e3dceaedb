"""A network by name, as a config says: one of whatwhere's own, or any of timm's."""

import re
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from ..errors import WhatwhereError, closest, need
from .widths import OWN, width_spec


class GhostConfig(NamedTuple):
    """How convolutions give way to ghost convolutions, see :func:`whatwhere.ghostify`: the ratio, and what they are
    fitted to.
    """

    ratio: int
    start: Literal["maps", "weights", "random"]


@dataclass(frozen=True)
class ModelConfig:
    """Which network, and which attention in it.

    Attributes:
        name: ``small-resnet``, ``small-resnet-32``, ``resnet-20``, ``resnet-56``, ``small-vgg``, ``small-mobilenet``,
            ``ghostnet``, ``ghostnetv2``, or any name that timm knows.
        attention: what to insert, such as ``cbam``, ``cbam:paper`` or ``se:reduction=8``; ``none`` for the plain
            network.
        classes: how many classes it tells apart.
        width: widths of the stages, or a factor on them; None for the network's own.
        pretrained: whether to load timm's weights.
        weights: a checkpoint of the plain network to start from in place of timm's weights, see :func:`whatwhere.load`.
            Where it has another number of classes, the last layer starts from random weights.
        ghost: a ratio such as ``2`` to put ghost convolutions in place of convolutions, see :func:`whatwhere.ghostify`,
            before attention is inserted; ``none`` for none. In a network with learned weights they are fitted to its
            maps of training images; ``2:weights`` fits them to the filters alone, ``2:random`` not at all, as in a
            network without learned weights.

    Raises:
        WhatwhereError: both ``pretrained`` and ``weights``, or a wrong ``ghost``.

    Example:
        >>> import whatwhere as ww
        >>> model = ww.build(ww.ModelConfig("small-resnet", attention="cbam", classes=5), size=24)
        >>> list(ww.attentions(model))
        ['stages.0.0.bn2', 'stages.1.0.bn2', 'stages.2.0.bn2']
    """

    name: str = "small-resnet"
    attention: str = "none"
    classes: int = 10
    width: tuple[int, ...] | float | None = None
    pretrained: bool = False
    weights: str | None = None
    ghost: str = "none"

    def __post_init__(self) -> None:
        if self.pretrained and self.weights is not None:
            raise WhatwhereError(f"pretrained=True and weights={self.weights!r}: choose one of the two to start from")
        _ = self.ghost_config

    @property
    def trained(self) -> bool:
        """Whether the network starts from weights that were learned before."""
        return self.pretrained or self.weights is not None

    @property
    def ghost_config(self) -> GhostConfig | None:
        """What ``ghost`` says; None for no ghost convolutions.

        Raises:
            WhatwhereError: it is not RATIO or RATIO:START, or the ratio is below 2.
        """
        if self.ghost == "none":
            return None
        match = re.fullmatch(r"(\d+)(?::(maps|weights|random))?", self.ghost)
        if match is None or int(match[1]) < 2:
            raise WhatwhereError(
                f"ghost={self.ghost!r}: must be none, or a ratio from 2 with perhaps what is fitted to: 2, 2:maps, "
                "2:weights, 2:random"
            )
        start: Any = match[2] or ("maps" if self.trained else "random")
        return GhostConfig(int(match[1]), start)

    def untrained(self) -> "ModelConfig":
        """Return the same network with random weights."""
        ghost = self.ghost if self.ghost_config is None else "{}:{}".format(*self.ghost_config)
        return replace(self, pretrained=False, weights=None, ghost=ghost)


def build_plain(config: ModelConfig) -> nn.Module:
    """Build the network of a config without its attention and without the weights of ``config.weights``, on the CPU.

    Raises:
        WhatwhereError: an unknown network, widths that it does not take, or pretrained weights that cannot be
            downloaded.

    Example:
        >>> import whatwhere as ww
        >>> from whatwhere.networks import build_plain
        >>> build_plain(ww.ModelConfig("small-vgg", classes=5)).head.out_features
        5
    """
    if config.classes < 1:
        raise WhatwhereError(f"classes={config.classes}: a network needs at least one")
    if config.name in OWN:
        if config.pretrained:
            raise WhatwhereError(
                f"{config.name} has no pretrained weights: leave pretrained out, or take a network of timm's"
            )
        return _with_width(config)
    timm = need("timm", extra="train")
    if not timm.is_model(config.name):
        known = [*OWN, *timm.list_models()]
        raise WhatwhereError(
            f"unknown network {config.name!r}: one of {', '.join(OWN)}, or of timm's (python -c 'import timm; "
            f"print(*timm.list_models())'){closest(config.name, known)}"
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


def _with_width(config: ModelConfig) -> nn.Module:
    spec = width_spec(config.name)
    if spec is None:
        raise WhatwhereError(f"it is not known how to set the widths of {config.name}: leave width out")
    if config.width is None:
        return spec.make(config.classes, spec.base)
    before = torch.get_rng_state()
    model = spec.make(config.classes, spec.widths(config.width))
    torch.set_rng_state(before)
    _start_alike(model, spec.make(config.classes, spec.base))
    return model


def _start_alike(model: nn.Module, usual: nn.Module) -> None:
    """Give the channels that a network has at its usual widths the first weights that they have there.

    Of a tensor of another shape these are the first of each axis, scaled to the standard deviation of the new one. So
    what a seed gives to a network, lucky or not, it also gives to the wider one that is compared with it.
    """
    start = dict(usual.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            theirs = start.get(name)
            if theirs is None or theirs.dim() != parameter.dim() or theirs.is_meta or parameter.is_meta:
                continue
            if theirs.shape == parameter.shape:
                parameter.copy_(theirs)
            elif theirs.numel() > 1 and parameter.numel() > 1 and theirs.std() > 0:
                part = tuple(slice(min(sides)) for sides in zip(theirs.shape, parameter.shape, strict=True))
                parameter[part] = theirs[part] * (parameter.std() / theirs.std())
