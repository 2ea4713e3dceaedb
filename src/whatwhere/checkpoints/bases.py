"""Building the network of a spec, by name from whatwhere, timm or torchvision and from nowhere else."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from ..errors import WhatwhereError, closest, need
from ..layers import create
from ..networks.build import ModelConfig, build_plain
from ..networks.widths import OWN
from ..surgery.attach import attach
from ..surgery.ghostify import put_ghost
from .spec import AttentionSpec, Base, ModelSpec

_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
_REFUSED = ("pretrained", "weights", "checkpoint", "cache", "progress", "url", "file")


def parse_base(base: str | ModelConfig, options: Mapping[str, Any] | None = None) -> Base:
    """Take apart ``"torchvision:resnet50"``, ``"timm:resnet26"`` or ``"small-resnet"``, or take a :class:`ModelConfig`.

    Raises:
        WhatwhereError: the builder or the name is not known.
    """
    if isinstance(base, ModelConfig):
        width = list(base.width) if isinstance(base.width, tuple) else base.width
        return Base("whatwhere", base.name, {"classes": base.classes, "width": width, **(options or {})})
    builder, colon, name = base.partition(":")
    if not colon:
        builder, name = "whatwhere", base
    if builder not in _BUILDERS:
        raise WhatwhereError(
            f"base={base!r}: before the colon must be one of {', '.join(_BUILDERS)}{closest(builder, _BUILDERS)}"
        )
    return Base(builder, name, dict(options or {}))


def construct(spec: ModelSpec, *, meta: bool = False) -> nn.Module:
    """Build the network of a spec with new weights, ghost convolutions and attention put in; on the meta device if
    asked for and possible.

    The caller's random numbers stay as they are.

    Raises:
        WhatwhereError: an unknown builder, name or option, or a site or a convolution that the network does
            not have.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if meta:
            with suppress(RuntimeError), torch.device("meta"):  # some networks need real numbers while they are built
                return _construct(spec, meta=True)
        return _construct(spec, meta=meta)


def _construct(spec: ModelSpec, *, meta: bool) -> nn.Module:
    base = spec.base
    if base.builder not in _BUILDERS:
        raise WhatwhereError(f"unknown builder {base.builder!r}: one of {', '.join(_BUILDERS)}")
    for option in base.options:
        if option.lower().startswith(_REFUSED):
            raise WhatwhereError(f"{base}: the option {option!r} would read other files, which a spec may not")
    try:
        model = _BUILDERS[base.builder](base.name, dict(base.options))
    except (WhatwhereError, NotImplementedError):
        raise
    except _FAILURES as error:
        raise WhatwhereError(f"{base} cannot be built: {type(error).__name__}: {error}") from error
    for ghost in spec.ghosts:
        put_ghost(model, ghost.module, ghost.ratio, ghost.cheap_kernel_size, ghost.ordered, meta=meta)
    for one in spec.attention:
        _put(model, one)
    return model


def _put(model: nn.Module, one: AttentionSpec) -> None:
    """Put one attention where it was."""
    attention = create(one.name, one.channels, **one.options)
    hooked = one.side != "child"
    parent, _, name = (one.module, "", "attention") if hooked else one.module.rpartition(".")
    try:
        module = model.get_submodule(parent)
    except AttributeError:
        raise WhatwhereError(
            f"{type(model).__name__} has no module {parent!r} for attention: was it built otherwise?"
        ) from None
    fits = not hasattr(module, name) if hooked else name in module._modules or isinstance(module, nn.Sequential)
    if not fits:
        raise WhatwhereError(f"{parent or type(model).__name__} cannot take attention called {name!r}")
    if one.side == "child":
        module.add_module(name, attention)
    else:
        attach(module, attention, one.side)


def _whatwhere(name: str, options: dict[str, Any]) -> nn.Module:
    width = options.pop("width", None)
    if name not in OWN:
        _known_to_timm(name)
    return build_plain(ModelConfig(name, width=tuple(width) if isinstance(width, list) else width, **options))


def _timm(name: str, options: dict[str, Any]) -> nn.Module:
    model: nn.Module = _known_to_timm(name).create_model(name, pretrained=False, **options)
    return model


def _known_to_timm(name: str) -> Any:
    timm = need("timm", extra="train")
    if any(sign in name for sign in ":/\\") or not timm.is_model(name):  # a colon or a slash would fetch from the hub
        raise WhatwhereError(f"timm has no network {name!r}{closest(name, timm.list_models())}")
    return timm


def _torchvision(name: str, options: dict[str, Any]) -> nn.Module:
    models = need("torchvision.models", extra="train")
    if name not in models.list_models():
        raise WhatwhereError(f"torchvision has no network {name!r}{closest(name, models.list_models())}")
    taken = inspect.signature(models.get_model_builder(name)).parameters
    plain = {key: None for key in ("weights", "weights_backbone") if key in taken}
    model: nn.Module = models.get_model(name, **plain, **options)
    return model


_BUILDERS: dict[str, Callable[[str, dict[str, Any]], nn.Module]] = {
    "whatwhere": _whatwhere,
    "timm": _timm,
    "torchvision": _torchvision,
}
