"""What a checkpoint written by whatwhere says of its attention, compared with the network's."""

from collections.abc import Mapping
from typing import Any

from ..errors import WhatwhereError
from ..layers import Attention, parse
from .options import build, describe
from .reading import Source


def broken_promises(source: Source, there: Mapping[str, Attention]) -> dict[str, str]:
    """Return the sites whose attention differs from what the checkpoint says, each with the reason.

    Weights alone do not tell gates of 2·σ(z) from σ(z), or a pool from another: what a file or a run's configuration
    says besides is compared here. A checkpoint that says nothing is accepted.
    """
    told = _told(source, there)
    broken = {}
    for site, (name, options) in told.items():
        here = there[site]
        made = build(name, here.channels, options)
        if made is not None and describe(made) != describe(here):
            identity = bool(options.get("identity", False))
            broken[site] = (
                f"the checkpoint's is {name!r} with {_words(options)}, the network's is {here}. "
                f"Insert it anew: whatwhere.insert(model, {name!r}, identity={identity}{_more(options)})"
            )
    return broken


def _told(source: Source, there: Mapping[str, Attention]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return name and options of the checkpoint's attention at each of the network's sites that it speaks of."""
    if source.attention is not None:
        try:
            spec = parse(source.attention)
        except WhatwhereError:
            return {}
        if spec.name == "none":
            return {}
        return {site: (spec.name, {"identity": spec.identity, **spec.options}) for site in there}
    if source.spec is None:
        return {}
    from .spec import ModelSpec

    specs = ModelSpec.from_json(source.spec, source.path).attention
    return {one.module: (one.name, dict(one.options)) for one in specs if one.module in there}


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in options.items()) or "its default options"


def _more(options: Mapping[str, Any]) -> str:
    return "".join(f", {key}={value!r}" for key, value in options.items() if key != "identity")
