"""The attentions by name: what the factory, the command line, the tests, the benchmarks and the README's table read."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import WhatwhereError, closest
from ..options import read_options, read_spec
from .attention import Attention


@dataclass(frozen=True)
class Entry:
    """What is known of an attention.

    Attributes:
        name: its name for :func:`create` and the command line.
        cls: its class.
        title: what it is, in a few words.
        paper: the paper's short name, year and arXiv number.
        code: where the official code is.
        formula: its gates, as plain text.
    """

    name: str
    cls: type[Attention]
    title: str
    paper: str
    code: str
    formula: str

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The keyword options that its constructor takes, with their defaults."""
        parameters = inspect.signature(self.cls).parameters
        return {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


@dataclass(frozen=True)
class Spec:
    """An attention with its options, as written on a command line (see :func:`parse`)."""

    name: str
    options: dict[str, Any]
    identity: bool

    def create(self, channels: int, **more: Any) -> Attention:
        """Build it for a map of ``channels`` channels."""
        return create(self.name, channels, identity=self.identity, **self.options, **more)


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str, *, title: str, paper: str, code: str, formula: str
) -> Callable[[type[Attention]], type[Attention]]:
    """Class decorator: make an attention known under ``name``."""

    def decorate(cls: type[Attention]) -> type[Attention]:
        if name in _ENTRIES and _ENTRIES[name].cls.__qualname__ != cls.__qualname__:
            raise WhatwhereError(
                f"two attentions are called {name!r}: {_ENTRIES[name].cls.__name__} and {cls.__name__}"
            )
        _ENTRIES[name] = Entry(name, cls, title, paper, code, formula)
        return cls

    return decorate


def names() -> list[str]:
    """Return the names of all attentions, sorted."""
    return sorted(_ENTRIES)


def entry(name: str) -> Entry:
    """Return what is known of the attention called ``name``, or raise with the nearest known name."""
    if name not in _ENTRIES:
        raise WhatwhereError(f"unknown attention {name!r}: one of {', '.join(names())}{closest(str(name), _ENTRIES)}")
    return _ENTRIES[name]


def create(name: str, channels: int, **options: Any) -> Attention:
    """Build an attention by name.

    Args:
        name: one of :func:`names`.
        channels: C of the maps that it will take.
        options: its keyword options, see its class; a misspelt one raises with the nearest known.

    Returns:
        The module, ``(N, C, H, W)`` → ``(N, C, H, W)``; in the paper's form unless ``identity=True``.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.create("cbam", 256, reduction=8).gates(torch.randn(2, 256, 14, 14)).spatial.shape
        torch.Size([2, 1, 14, 14])
    """
    found = entry(name)
    _check_options(found, options)
    return found.cls(channels, **options)


def parse(text: str) -> Spec:
    """Read an attention with options from one word of a command line.

    ``NAME[:paper][:OPTION=VALUE]…``: ``cbam`` starts at the identity, ``cbam:paper`` in the paper's form,
    ``cbam:reduction=8:pools=avg+max`` sets options (``+`` makes a tuple). The word ``none`` stands for no attention.

    Raises:
        WhatwhereError: unknown name or option, or a part that is neither ``paper`` nor ``OPTION=VALUE``.
    """
    written = read_spec(text, flags=["paper"])
    if written.name == "none":
        if written.flags or written.options:
            raise WhatwhereError(f"'none' takes no options, got {text!r}")
        return Spec("none", {}, True)
    found = entry(written.name)
    if "identity" in written.options:
        raise WhatwhereError(
            f"identity in {text!r}: the identity start is the default; write 'paper' for the paper's form"
        )
    defaults = {key: parameter.default for key, parameter in found.options.items() if key not in ("device", "dtype")}
    return Spec(written.name, read_options(written, defaults), "paper" not in written.flags)


def _check_options(found: Entry, options: dict[str, Any]) -> None:
    for option in options:
        if option not in found.options:
            allowed = ", ".join(found.options)
            raise WhatwhereError(
                f"{found.name} has no option {option!r}: it takes {allowed}{closest(option, found.options)}"
            )
