"""Errors that a user can cause, and help with their messages."""

import difflib
import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any


class WhatwhereError(ValueError):
    """What the caller asked for cannot be done. The message says what came, what is allowed, and what to do."""


class MissingExtra(WhatwhereError, ImportError):
    """A package that is needed is not installed. The message names the extra that brings it."""


def closest(word: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest allowed word, or an empty string where none is near.

    Example:
        >>> closest("cbma", ["cbam", "se"])
        "; did you mean 'cbam'?"
    """
    near = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def need(package: str, extra: str) -> Any:
    """Import and return a package or a module of one.

    Args:
        package: its name; dots are allowed.
        extra: the extra of whatwhere that brings it.

    Raises:
        MissingExtra: it is not installed.

    Example:
        >>> need("json", extra="train").loads("[1]")
        [1]
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != package.split(".")[0]:
            raise
        raise MissingExtra(
            f"this needs the package {package.split('.')[0]!r}, which is not installed: "
            f"pip install 'whatwhere[{extra}]'"
        ) from error


def require(**packages: tuple[str, ...]) -> None:
    """Check that packages are installed, without importing them, so that long work does not fail at its end.

    Args:
        packages: names of packages, by the extra that brings them.

    Raises:
        MissingExtra: one is not installed.

    Example:
        >>> require(look=("json",))
    """
    missing = [name for names in packages.values() for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"this needs packages that are not installed, {', '.join(missing)}: "
            f"pip install 'whatwhere[{','.join(packages)}]'"
        )
