"""Checks of options that several layers share: a wrong one raises when the layer is built."""

from collections.abc import Iterable, Sequence

from ..errors import WhatwhereError, closest


def check_count(what: str, value: int) -> int:
    """Return ``value`` if it is a whole number of at least 1, or raise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise WhatwhereError(f"{what} must be a whole number of at least 1, got {value!r}")
    return value


def check_flag(what: str, value: bool) -> bool:
    """Return ``value`` if it is True or False, or raise."""
    if not isinstance(value, bool):
        raise WhatwhereError(f"{what} must be True or False, got {value!r}")
    return value


def check_odd(what: str, value: int) -> int:
    """Return ``value`` if it is an odd whole number of at least 1 (a kernel that keeps the map's size), or raise."""
    if check_count(what, value) % 2 == 0:
        raise WhatwhereError(
            f"{what} must be odd, so that the map keeps its size, got {value}: take {value - 1} or {value + 1}"
        )
    return value


def check_choice(what: str, value: str, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is allowed, or raise with the nearest allowed word."""
    allowed = list(allowed)
    if value not in allowed:
        raise WhatwhereError(f"unknown {what} {value!r}: one of {', '.join(allowed)}{closest(str(value), allowed)}")
    return value


def check_multiple(what: str, value: int, divisor: int, why: str) -> int:
    """Return ``value`` if it is a multiple of ``divisor``, or raise with the nearest multiples and the reason."""
    if check_count(what, value) % divisor:
        below = value - value % divisor
        nearest = f"{below} or {below + divisor}" if below else str(divisor)
        raise WhatwhereError(f"{what} must be a multiple of {divisor} ({why}), got {value}: take {nearest}")
    return value


def largest_divisor(number: int, at_most: int) -> int:
    """Return the largest divisor of ``number`` that is not above ``at_most``: groups that every width can be cut in.

    Example:
        >>> largest_divisor(64, 32), largest_divisor(20, 16), largest_divisor(7, 4)
        (32, 10, 1)
    """
    return next(divisor for divisor in range(min(number, at_most), 0, -1) if number % divisor == 0)


def check_divisor(what: str, value: int, channels: int) -> int:
    """Return ``value`` if it divides the channels, or raise with the nearest numbers that do."""
    if channels % check_count(what, value):
        below = largest_divisor(channels, value)
        above = next((d for d in range(value, channels + 1) if channels % d == 0), below)
        near = f"{below} or {above}" if above > below else f"{below}"
        raise WhatwhereError(f"{what} must divide the {channels} channels, got {value}: take {near}")
    return value


def check_size(what: str, value: int | Sequence[int]) -> tuple[int, int]:
    """Return a height and width, given as a pair or as one number for both, or raise."""
    pair = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2:
        raise WhatwhereError(f"{what} must be a whole number or a pair of them, got {value!r}")
    return check_count(what, pair[0]), check_count(what, pair[1])


def check_pools(pools: str | Sequence[str], allowed: Iterable[str]) -> tuple[str, ...]:
    """Return ``pools`` as a tuple of distinct known names (a single name may come bare), or raise."""
    allowed = list(allowed)
    chosen = (pools,) if isinstance(pools, str) else tuple(pools)
    if not chosen:
        raise WhatwhereError(f"pools is empty: at least one of {', '.join(allowed)}")
    for pool in chosen:
        check_choice("pool", pool, allowed)
    if len(set(chosen)) < len(chosen):
        raise WhatwhereError(f"pools names one twice: {', '.join(chosen)}")
    return chosen


def hidden_width(channels: int, reduction: int, hidden: int | None = None) -> int:
    """Return ``hidden`` if given, else C // r, but at least 1: the official code has layers of width 0."""
    width = max(1, check_count("channels", channels) // check_count("reduction", reduction))
    return width if hidden is None else check_count("hidden", hidden)
