"""Finding what :func:`whatwhere.replace` replaces."""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..errors import WhatwhereError
from ..layers import Attention, Entry, Excitation, entry
from .attach import attentions
from .convolutions import CONVOLUTION, convolutions
from .excitation import excitations
from .foreign import candidates, has_hooks, recognise
from .outputs import probe_outputs


@dataclass(frozen=True)
class Old:
    """A module that is going to be replaced.

    Attributes:
        module: the module.
        channels: C of the maps.
        attention: whatwhere's attention that computes the same, with the same weights; None where there is none.
        excitation: what another attention can take over from it.
        options: options that what replaces it must have, such as its stride.
    """

    module: nn.Module
    channels: int
    attention: Attention | None = None
    excitation: Excitation | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, module: nn.Module, attention: Attention, new: Entry) -> "Old":
        """Return a module that is, or computes what, an attention of whatwhere."""
        stride = attention.settings().get("stride", 1) if new.replaces else 1
        options = {} if stride == 1 else {"stride": stride}
        return cls(module, attention.channels, attention, attention.excitation(), options)


@dataclass(frozen=True)
class Search:
    """What was found.

    Attributes:
        there: what is to be replaced, by name, in the order of the network's modules.
        others: what looks like it and is left alone, each with the reason.
        before: the network's outputs on the probe input.
        shapes: (C, H, W) of the maps that the modules take, of those that ran.
    """

    there: dict[str, Old]
    others: dict[str, str]
    before: list[Tensor]
    shapes: dict[str, tuple[int, int, int]]


def search(model: nn.Module, old: str, new: Entry, at: str, example: Any) -> Search:
    """Find every ``old`` in a network whose name ``at`` matches.

    Raises:
        WhatwhereError: there is none; the message says what there is instead.
    """
    if old == CONVOLUTION:
        layers, others = convolutions(model, new, at)
        found = {name: Old(conv, conv.out_channels, options=_stride(conv)) for name, conv in layers.items()}
        if not found:
            raise WhatwhereError(_no_convolution(model, new, at, others))
        return Search(found, others, *probe_outputs(model, example, layers))
    kind, found, others = entry(old), dict[str, Old](), dict[str, str]()
    for name, attention in attentions(model).items():
        if type(attention) is kind.cls:
            found[name] = Old.of(attention, attention, new)
    foreign = {}
    if kind.is_excitation:
        theirs, others = excitations(model)
        for name, excitation in theirs.items():
            module = model.get_submodule(name)
            if has_hooks(module):
                others[name] = f"{type(module).__name__} has hooks, which would be lost"
            else:
                found[name] = Old(module, excitation.channels, excitation=excitation)
    else:
        foreign = candidates(model, kind)
    places = list(dict.fromkeys((*found, *foreign)))
    if places and not fnmatch.filter(places, at):
        raise WhatwhereError(f"at={at!r} matches none of the sites of {old!r}: {', '.join(_ordered(model, places))}")
    found = {name: one for name, one in found.items() if fnmatch.fnmatchcase(name, at)}
    foreign = {name: maps for name, maps in foreign.items() if fnmatch.fnmatchcase(name, at)}
    if not (found or foreign):
        raise WhatwhereError(_nothing(model, old, others))
    watched = {name: one.module for name, one in found.items()}
    watched |= {name: model.get_submodule(name) for name in foreign}
    before, shapes = probe_outputs(model, example, watched)
    for name, maps in foreign.items():
        module = model.get_submodule(name)
        channels = shapes[name][0] if name in shapes else None
        same, reason = recognise(kind, module, maps, channels)
        if same is not None:
            found[name] = Old.of(module, same, new)
        elif reason:
            others[name] = reason
    if not found:
        raise WhatwhereError(_nothing(model, old, others))
    return Search({name: found[name] for name in _ordered(model, found)}, others, before, shapes)


def _stride(conv: nn.Conv2d) -> dict[str, Any]:
    return {} if conv.stride == (1, 1) else {"stride": conv.stride[0]}


def _ordered(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Return names of modules in the order of the network."""
    order = {name: number for number, (name, _) in enumerate(model.named_modules())}
    return sorted(names, key=order.__getitem__)


def _no_convolution(model: nn.Module, new: Entry, at: str, others: dict[str, str]) -> str:
    seen = "; ".join(f"{name}: {why}" for name, why in list(others.items())[:5])
    return (
        f"there is no 3×3 convolution with as many outputs as inputs that {new.name!r} can replace in this "
        f"{type(model).__name__}"
        + ("" if at == "*" else f" under at={at!r}")
        + (f". What is there: {seen}" if seen else "")
    )


def _nothing(model: nn.Module, old: str, others: dict[str, str]) -> str:
    seen = "; ".join(f"{name}: {why}" for name, why in list(others.items())[:5])
    ours = ", ".join(f"{name} ({type(a).__name__})" for name, a in list(attentions(model).items())[:5])
    like = "What gates channels there" if entry(old).is_excitation else "What looks like it there"
    what = (
        f"to put it in the place of 3×3 convolutions: whatwhere.replace(model, {CONVOLUTION!r}, {old!r})"
        if entry(old).replaces
        else f"To add attention: whatwhere.insert(model, {old!r})"
    )
    return (
        f"there is no {old!r} in this {type(model).__name__}"
        + (f". {like}: {seen}" if seen else "")
        + (f". whatwhere's attention there: {ours}" if ours else "")
        + f". {what[0].upper()}{what[1:]}"
    )
