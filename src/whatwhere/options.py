"""The grammar of things with options in one word of a command line: ``NAME[:FLAG]…[:OPTION=VALUE]…``.

``cbam:paper:reduction=8:pools=avg+max`` and ``scenes:digits=1-4:size=64`` are written in it.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import WhatwhereError, closest


@dataclass(frozen=True)
class Spec:
    """A name with flags and options, as written; ``text`` is the whole word."""

    text: str
    name: str
    flags: tuple[str, ...]
    options: dict[str, str]


def read_spec(text: str, flags: Iterable[str] = ()) -> Spec:
    """Take a word apart.

    Args:
        text: the word.
        flags: the parts without ``=`` that are allowed.

    Raises:
        WhatwhereError: a part that is neither a flag nor ``OPTION=VALUE``, or one that is given twice.

    Example:
        >>> read_spec("cbam:paper:reduction=8", flags=["paper"]).options
        {'reduction': '8'}
    """
    name, *parts = text.strip().split(":")
    allowed, found, options = list(flags), list[str](), dict[str, str]()
    for part in parts:
        key, equals, value = part.partition("=")
        if part.lower() in allowed and part.lower() not in found:
            found.append(part.lower())
        elif equals and key and key not in options:
            options[key] = value
        else:
            what = "given twice" if part.lower() in found or key in options else "neither a flag nor OPTION=VALUE"
            known = f" (flags: {', '.join(allowed)})" if allowed else ""
            raise WhatwhereError(f"{part!r} in {text!r} is {what}{known}{closest(part, allowed)}")
    return Spec(text, name, tuple(found), options)


def read_options(spec: Spec, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a spec's options, read as what their defaults are (see :func:`read_value`).

    Raises:
        WhatwhereError: an option that is not among the defaults, or a value that does not fit.
    """
    values = {}
    lower = {key.lower(): key for key in defaults}
    for given, text in spec.options.items():
        key = given if given in defaults else lower.get(given.lower(), given)
        if key not in defaults:
            known = ", ".join(defaults)
            raise WhatwhereError(f"{spec.name} has no option {key!r}: it takes {known}{closest(key, defaults)}")
        try:
            values[key] = read_value(text, defaults[key])
        except ValueError:
            raise WhatwhereError(f"{spec.text!r}: {key} is {_kind(defaults[key])}, not {text!r}") from None
    return values


def read_value(text: str, default: Any) -> Any:
    """Read a value as what its default is.

    A default that is a pair of numbers makes it a range, ``least-most`` or one value for both; a number makes it a
    number. Otherwise ``a+b`` is a tuple, ``true``, ``false`` and ``none`` are these values, and the rest is a whole
    number, a number, or a word.

    Raises:
        ValueError: it does not fit the default.

    Example:
        >>> read_value("2-5", (1, 1)), read_value("avg+max", ("avg",)), read_value("none", 3)
        ((2, 5), ('avg', 'max'), None)
    """
    if _is_range(default):
        number = _number(type(default[0]))
        least, dash, most = text.partition("-")
        return number(least), number(most if dash else least)
    if isinstance(default, (int, float)) and not isinstance(default, bool) and text.lower() not in _WORDS:
        return _number(type(default))(text)
    if "+" in text:
        return tuple(_plain(part) for part in text.split("+"))
    return _plain(text)


_WORDS = {"true": True, "false": False, "none": None}


def _plain(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _number(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = kind(text)
        if not math.isfinite(value):
            raise ValueError(text)
        return value

    return read


def _is_range(default: Any) -> bool:
    numbers = (int, float)
    return isinstance(default, tuple) and len(default) == 2 and all(type(part) in numbers for part in default)


def _kind(default: Any) -> str:
    return "least-most, such as 2-5" if _is_range(default) else "a whole number" if type(default) is int else "a number"
