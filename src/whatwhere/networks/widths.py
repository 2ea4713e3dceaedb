"""How wide a network is: for each family that can be widened, the option that does it."""

import functools
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..cost.counts import count_multiply_adds, count_parameters
from ..errors import WhatwhereError, need
from .ghost import GhostNet
from .small import SMALL, WIDTHS, create_small

_RESNET = (64, 128, 256, 512)
# Networks of timm whose width is a factor inside a builder: pattern (its group is the factor in percent), module,
# builder.
_FACTORS = (
    (r"mobilenetv1_(\d{3})", "timm.models.efficientnet", "_gen_mobilenet_v1"),
    (r"mobilenetv2_(\d{3})", "timm.models.efficientnet", "_gen_mobilenet_v2"),
    (r"mobilenetv3_(?:large|small)_(\d{3})", "timm.models.mobilenetv3", "_gen_mobilenet_v3"),
    (r"efficientnet_b0", "timm.models.efficientnet", "_gen_efficientnet"),
    (r"(?:tf_)?efficientnet_lite0", "timm.models.efficientnet", "_gen_efficientnet_lite"),
)


@dataclass(frozen=True)
class WidthSpec:
    """The widths of a network.

    Attributes:
        make: builds the network from classes and widths.
        base: the widths that it has by itself: channels per stage, or one number (growth rate, percent) for all.
        step: widths are multiples of this when they are changed.
    """

    make: Callable[[int, tuple[int, ...]], nn.Module]
    base: tuple[int, ...]
    step: int = 8

    def widths(self, width: tuple[int, ...] | float) -> tuple[int, ...]:
        """Return the widths that are meant by ``width``: themselves, or a factor on the network's own.

        Raises:
            WhatwhereError: not as many widths as there are stages, or one that is not positive.
        """
        if isinstance(width, tuple):
            if len(width) != len(self.base) or any(w < 1 for w in width):
                raise WhatwhereError(
                    f"width={width}: this network takes {len(self.base)} positive numbers, its own are {self.base}"
                )
            return width
        if width <= 0:
            raise WhatwhereError(f"width={width}: a factor on the network's own widths {self.base} is above 0")
        return tuple(max(self.step, round(w * width / self.step) * self.step) for w in self.base)

    def multiply_adds(self, classes: int, widths: tuple[int, ...], size: int) -> int:
        """Count the multiply-adds of convolutions and matrix products for one image of ``size``."""
        return _count_multiply_adds(self.make, classes, widths, size)

    def parameters(self, classes: int, widths: tuple[int, ...]) -> int:
        """Count the parameters at these widths, without the memory for them where the network allows it."""
        return _count(self.make, classes, widths)


Make = Callable[[int, tuple[int, ...]], nn.Module]


def _build(make: Make, classes: int, widths: tuple[int, ...]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return make(classes, widths)
        except (NotImplementedError, RuntimeError):
            return make(classes, widths)


@functools.lru_cache(maxsize=4096)
def _count(make: Make, classes: int, widths: tuple[int, ...]) -> int:
    return count_parameters(_build(make, classes, widths))


@functools.lru_cache(maxsize=4096)
def _count_multiply_adds(make: Make, classes: int, widths: tuple[int, ...], size: int) -> int:
    return count_multiply_adds(_build(make, classes, widths), (3, size, size))


@functools.cache
def width_spec(name: str) -> WidthSpec | None:
    """Return how to set the widths of a network by name; None where no way is known.

    It is known for whatwhere's own networks and, of timm's, for ResNet's relatives, ConvNeXt, DenseNet, MobileNet 1 to
    3, EfficientNet-B0 and -Lite0. An option counts only if the network that it builds at the base width has as many
    parameters as the one of that name.
    """
    if name in OWN:
        return OWN[name]
    found = _timm_width_spec(name)
    if found is None:
        return None
    create = need("timm", extra="train").create_model
    plain = _count(lambda classes, _: create(name, num_classes=classes), 10, ())
    return found if found.parameters(10, found.base) == plain else None


def _ghostnet(version: int, classes: int, widths: tuple[int, ...]) -> nn.Module:
    return GhostNet(classes, widths[0] / 100, version=version)


OWN: dict[str, WidthSpec] = {
    **{name: WidthSpec(functools.partial(create_small, name), WIDTHS) for name in SMALL},
    "ghostnet": WidthSpec(functools.partial(_ghostnet, 1), (100,), 2),
    "ghostnetv2": WidthSpec(functools.partial(_ghostnet, 2), (100,), 2),
}
"""whatwhere's own networks by name, and how they are built; the width of a GhostNet is a factor in percent."""


def _timm_width_spec(name: str) -> WidthSpec | None:
    timm = need("timm", extra="train")

    def option(key: str, single: bool = False) -> Callable[[int, tuple[int, ...]], nn.Module]:
        def make(classes: int, widths: tuple[int, ...]) -> nn.Module:
            model: nn.Module = timm.create_model(name, num_classes=classes, **{key: widths[0] if single else widths})
            return model

        return make

    for pattern, module, builder in _FACTORS:
        match = re.fullmatch(pattern, name)
        generate = getattr(importlib.import_module(module), builder, None) if match else None
        if match and generate is not None:
            percent = int(match.group(1)) if match.groups() else 100
            return WidthSpec(functools.partial(_generate, generate, name), (percent,), 2)
    if timm.models.is_model_in_modules(name, {"resnet"}):
        return WidthSpec(option("channels"), _RESNET)
    if timm.models.is_model_in_modules(name, {"convnext"}):
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            stages = timm.create_model(name).feature_info
        return WidthSpec(option("dims"), tuple(int(stage["num_chs"]) for stage in stages))
    if re.fullmatch(r"densenet(121|169|201)", name):
        return WidthSpec(option("growth_rate", single=True), (32,), 4)
    return None


def _generate(generate: Any, name: str, classes: int, widths: tuple[int, ...]) -> nn.Module:
    model: nn.Module = generate(name, channel_multiplier=widths[0] / 100, pretrained=False, num_classes=classes)
    return model
