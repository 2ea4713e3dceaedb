"""The options that an attention was made with, found from the attention itself."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ..errors import WhatwhereError
from ..layers import Attention, create, names
from ..layers import entry as known

_OWN = set(nn.Module().__dict__)
_PLAIN = (bool, int, float, str, type(None))
_FACTORY = ("device", "dtype")


def name_of(attention: Attention) -> str:
    """Return the name by which an attention is registered.

    Raises:
        WhatwhereError: its class is not registered (a subclass of a registered one is not that one).
    """
    for name in names():
        if known(name).cls is type(attention):
            return name
    raise WhatwhereError(
        f"{type(attention).__name__} has no registered name, so no other process could build it: one of {', '.join(names())}, or "
        "register it with whatwhere.layers.register in a module of your own and save the state_dict by yourself"
    )


def options_of(attention: Attention) -> dict[str, Any]:
    """Return options with which :func:`whatwhere.create` builds the same attention; those that are the defaults are left out.

    Values are looked for where they can be seen (attributes of the attention and of its parts, shapes of their weights); a set of them counts
    only if the attention built from it is the same in all types, attributes and shapes. Options that change nothing (the ``reduction``
    of a channel attention that is switched off) come out as their defaults.

    Raises:
        WhatwhereError: no such set was found.
    """
    name = name_of(attention)
    options = {key: p for key, p in known(name).options.items() if key not in _FACTORY}
    wanted = describe(attention)

    def distance(chosen: Mapping[str, Any]) -> float:
        made = build(name, attention.channels, chosen)
        return math.inf if made is None else len(describe(made) ^ wanted)

    best = {key: parameter.default for key, parameter in options.items()}
    left = distance(best)
    for key in [*options, *options]:  # twice: one option may hide behind another
        for value in _candidates(attention, key, options[key].default):
            if not left:
                break
            if (now := distance({**best, key: value})) < left:
                best, left = {**best, key: value}, now
    if left:
        raise WhatwhereError(
            f"the options of this {type(attention).__name__} are not to be seen from it, so it cannot be built again; was it changed "
            f"after it was made? It is {attention}"[:1000]
        )
    return {key: value for key, value in best.items() if value != options[key].default}


def build(name: str, channels: int, options: Mapping[str, Any]) -> Attention | None:
    """Build an attention without memory for its weights; None where these options do not go together."""
    try:
        with torch.random.fork_rng(devices=[]):
            return create(name, channels, **options, device="meta")
    except (WhatwhereError, TypeError, ValueError, RuntimeError):
        return None


def describe(module: nn.Module) -> frozenset[Any]:
    """Return everything of a module that decides what it computes, but for its weights' values, devices and dtypes."""
    found = set[Any]()
    for name, part in module.named_modules():
        found.add((name, type(part)))
        found |= {(name, k, v) for k, v in part.__dict__.items() if k not in _OWN and _is_plain(v)}
        for key, tensor in (*part._parameters.items(), *part._buffers.items()):
            found.add((name, key, None if tensor is None else tuple(tensor.shape)))
    return frozenset(found)


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, tuple) else isinstance(value, _PLAIN)


def _candidates(attention: Attention, option: str, default: Any) -> Iterator[Any]:
    """Give values that an option may have had."""
    if isinstance(default, bool):
        yield not default
    # what the attention or one of its parts remembers under this name: spatial_pools is also spatial.pools
    part, _, end = option.partition("_")
    inside = getattr(attention, part, None)
    for owner in (inside, *attention.modules()) if isinstance(inside, nn.Module) else attention.modules():
        for key in (option, end):
            value = owner.__dict__.get(key)
            if value is not None and _is_plain(value):
                yield _bare(value, default)
    widths = sorted({int(p.shape[0]) for p in attention.parameters() if p.ndim and p.shape[0]})
    if option == "reduction":
        yield from sorted({max(1, attention.channels // width) for width in widths})
    if option == "hidden":
        yield from widths
    if isinstance(default, int) and not isinstance(default, bool):
        yield from range(1, 17)


def _bare(value: Any, default: Any) -> Any:
    """Return the number in ``(7, 7)`` where a number is the default."""
    if isinstance(value, tuple) and isinstance(default, int) and value and len(set(value)) == 1:
        return value[0]
    return value
