"""Finding out how a network was built, and how two networks differ."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from ..cost.counts import count_parameters
from ..errors import WhatwhereError, need
from ..graph.forward import has_foreign_forward
from ..layers import Attention, entry_of
from ..layers.ghost_conv import GhostConv
from ..networks.ghost import GhostNet
from ..networks.small import SMALL, WIDTHS, SmallNetwork
from .bases import construct
from .report import shorten
from .spec import Base, ModelSpec
from .tensors import slots

_PLAIN = (bool, int, float, str)
_FREE = {"training", "grad_checkpointing"}  # these do not change what a network computes


def find_base(model: nn.Module, spec_for: Callable[[Base], ModelSpec]) -> Base:
    """Return how a network was built.

    Known are whatwhere's small networks, networks that carry the name of their architecture (timm's), and
    torchvision's, which are built one after the other until one is the same.

    Raises:
        WhatwhereError: nothing that is known builds this network.
    """
    nearest: tuple[float, Base, list[str]] | None = None
    for base in _guesses(model, spec_for):
        try:
            found = differences(model, construct(spec_for(base), meta=True))
            distance: float = len(found)
        except WhatwhereError as error:
            found, distance = [str(error)], math.inf
        if not found:
            return base
        if nearest is None or distance < nearest[0]:
            nearest = (distance, base, found)
    what = (
        "base='torchvision:resnet50', 'timm:resnet26', 'small-resnet' or a ModelConfig, with options={…} for the rest"
    )
    if nearest is None:
        raise WhatwhereError(f"it is not known how this {type(model).__name__} was built: say so with {what}")
    _, base, found = nearest
    raise WhatwhereError(
        f"this {type(model).__name__} is not quite {base}, the nearest that is known: {'; '.join(found[:5])}"
        f"{' …' if len(found) > 5 else ''}. Say how it was built with {what}; what was changed by hand "
        "afterwards cannot be kept: save its state_dict then"
    )


def _guesses(model: nn.Module, spec_for: Callable[[Base], ModelSpec]) -> Iterator[Base]:
    if isinstance(model, SmallNetwork):
        yield from _small(model)
        return
    if isinstance(model, GhostNet):
        width = None if model.width == 1 else model.width
        own = {1: "ghostnet", 2: "ghostnetv2"}[model.version]
        yield Base("whatwhere", own, {"classes": model.classifier.out_features, "width": width})
        return
    config: Any = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    name = config.get("architecture") if isinstance(config, dict) else getattr(config, "architecture", None)
    if isinstance(name, str):
        yield from _timm(model, name)
    elif type(model).__module__.startswith("torchvision.models."):
        yield from _torchvision(model, spec_for)


def _small(model: SmallNetwork) -> Iterator[Base]:
    widths = []
    for stage in model.stages:
        widths += [[count for count in _outputs(stage) if count > 1][-1]]
    for name in SMALL:
        width = None if tuple(widths) == WIDTHS else widths
        yield Base("whatwhere", name, {"classes": model.head.out_features, "width": width})


def _outputs(stage: nn.Module) -> Iterator[int]:
    """Return how many maps each convolution without bias makes, also one that gave way to a ghost or an attention."""
    whole = [module for module in stage.modules() if isinstance(module, (GhostConv, Attention))]
    parts = {id(part) for outer in whole for part in outer.modules() if part is not outer}
    for module in stage.modules():
        if isinstance(module, GhostConv) and module.conv1.bias is None:
            yield module.outputs
        elif isinstance(module, Attention) and (known := entry_of(type(module))) and known.replaces:
            yield module.channels
        elif isinstance(module, nn.Conv2d) and module.bias is None and id(module) not in parts:
            yield module.out_channels


def _timm(model: Any, name: str) -> Iterator[Base]:
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    options = {} if first is None or first.in_channels == 3 else {"in_chans": first.in_channels}
    if isinstance(getattr(model, "num_classes", None), int):
        options["num_classes"] = model.num_classes
    yield Base("timm", name, options)


def _torchvision(model: nn.Module, spec_for: Callable[[Base], ModelSpec]) -> Iterator[Base]:
    models = need("torchvision.models", extra="train")
    here = {key: tuple(slot.tensor.shape) for key, slot in slots(model).items()}
    near = [n for n in models.list_models() if models.get_model_builder(n).__module__ == type(model).__module__]
    size = count_parameters(model)
    for name in sorted(near, key=lambda name: abs(_size(models, name) - size)):
        base = Base("torchvision", name, {})
        try:
            there = {k: tuple(s.tensor.shape) for k, s in slots(construct(spec_for(base), meta=True)).items()}
        except WhatwhereError:
            continue
        if here.keys() != there.keys():
            continue
        other = {key for key in here if here[key] != there[key]}
        heads = {here[key][:1] for key in other}
        if not other:
            yield base
        elif len(heads) == 1 and all(here[key][1:] == there[key][1:] for key in other):
            yield Base("torchvision", name, {"num_classes": heads.pop()[0]})


def _size(models: Any, name: str) -> int:
    """Return how many parameters a network of torchvision has, as its published weights say."""
    return next((int(weights.meta.get("num_params", 0)) for weights in models.get_model_weights(name)), 0)


def differences(model: nn.Module, made: nn.Module) -> list[str]:
    """Return in what two networks differ as far as that can be seen without running them, each in a few words."""
    here, there = dict(model.named_modules()), dict(made.named_modules())
    found = []
    for names, words in ((here.keys() - there.keys(), "additional"), (there.keys() - here.keys(), "missing")):
        if names:
            found.append(f"{words} modules {shorten(sorted(names))}")
    for name in [name for name in here if name in there]:
        found += [f"{name or 'the network'}: {line}" for line in _differs(here[name], there[name])]
    shapes, others = ({k: tuple(s.tensor.shape) for k, s in slots(m).items()} for m in (model, made))
    found += [
        f"{key} is {shapes.get(key)} and not {others.get(key)}"
        for key in sorted(shapes.keys() | others.keys())
        if shapes.get(key) != others.get(key)
    ]
    return found


def _differs(here: nn.Module, there: nn.Module) -> list[str]:
    if type(here) is not type(there):
        return [f"{type(here).__name__} and not {type(there).__name__}"]
    if has_foreign_forward(here) and not has_foreign_forward(there):
        return ["its forward was replaced"]
    if here.extra_repr() != there.extra_repr():
        return [f"({here.extra_repr()}) and not ({there.extra_repr()})"]
    plain = [k for k, v in there.__dict__.items() if isinstance(v, _PLAIN) and k not in _FREE]
    return [
        f"{key}={here.__dict__.get(key)!r} and not {there.__dict__[key]!r}"
        for key in plain
        if here.__dict__.get(key) != there.__dict__[key]
    ]
