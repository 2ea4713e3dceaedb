"""The options that an attention was made with, checked against what it is now."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..errors import WhatwhereError
from ..layers import Attention, create, entry_of, names

_OWN = set(nn.Module().__dict__)
_PLAIN = (bool, int, float, str, type(None))


def name_of(attention: Attention) -> str:
    """Return the name by which an attention is registered.

    Raises:
        WhatwhereError: its class is not registered (a subclass of a registered one is not that one).
    """
    found = entry_of(type(attention))
    if found is None:
        raise WhatwhereError(
            f"{type(attention).__name__} has no registered name, so no other process could build it: one of "
            f"{', '.join(names())}. Register it with whatwhere.register, or save the state_dict"
        )
    return found.name


def options_of(attention: Attention) -> dict[str, Any]:
    """Return the options that an attention was made with, as far as they are not the defaults.

    They were recorded by the constructor. An attention that has been changed since is refused: what they build must be
    the same in all types, attributes and shapes.

    Raises:
        WhatwhereError: the attention was changed after it was made, its class is not registered, or an option cannot be
            kept as JSON.
    """
    name, options = name_of(attention), attention.init_options
    try:
        json.dumps(options)
    except (TypeError, ValueError) as error:
        raise WhatwhereError(
            f"the options of this {type(attention).__name__} cannot be kept in a file ({error}): {options}"
        ) from error
    made = build(name, attention.channels, options)
    if made is None or describe(made) != describe(attention):
        raise WhatwhereError(
            f"this {type(attention).__name__} was changed after it was made, so its options ({options}) do not build "
            f"it again. It is {attention}"[:1000]
        )
    return dict(options)


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
