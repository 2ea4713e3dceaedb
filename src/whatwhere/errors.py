"""The errors that a user can cause, and the words that help out of them."""

import difflib
import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any


class WhatwhereError(ValueError):
    """Something that the caller asked for cannot be done; the message says what came, what is allowed, what to do."""


class MissingExtra(WhatwhereError, ImportError):
    """A package of an optional extra is not installed."""


def closest(word: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest allowed word, or an empty string where none is near."""
    near = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def need(package: str, extra: str) -> Any:
    """Import and return ``package`` (dots allowed), or raise :class:`MissingExtra` that names the extra to install."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != package.split(".")[0]:
            raise
        raise MissingExtra(
            f"this needs the package {package.split('.')[0]!r}, which is not installed: pip install 'whatwhere[{extra}]'"
        ) from error


def require(**packages: tuple[str, ...]) -> None:
    """Raise :class:`MissingExtra` unless all packages are installed, given by extra: ``require(look=("matplotlib",))``.

    For long work, that must not fail in the end for what was missing at the start; nothing is imported.
    """
    missing = [name for names in packages.values() for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"this needs packages that are not installed, {', '.join(missing)}: pip install 'whatwhere[{','.join(packages)}]'"
        )
