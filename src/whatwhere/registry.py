"""The one registry class: entries by name, errors that help, and entries of third-party packages."""

import importlib
import pkgutil
import re
import warnings
from collections.abc import Iterator
from importlib import metadata
from typing import Generic, TypeVar

from .errors import WhatwhereError, closest
from .imports import import_named

E = TypeVar("E")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Registry(Generic[E]):
    """Entries by name.

    Before the first look-up the modules of ``package``, the entry points of ``group`` and the modules that the user
    named (:mod:`whatwhere.imports`) are imported, which adds their entries. A third-party package that fails to import
    is left out with a warning. Names are looked up without regard to case.

    Args:
        what: what an entry is, for messages, such as ``"attention"``.
        package: a package whose modules register entries.
        group: the entry-point group under which third-party packages name modules that register entries.

    Example:
        >>> colours = Registry[int]("colour")
        >>> colours.add("red", 0xFF0000)
        >>> colours["rad"]
        Traceback (most recent call last):
        whatwhere.errors.WhatwhereError: unknown colour 'rad': one of red; did you mean 'red'?
    """

    def __init__(self, what: str, *, package: str = "", group: str = "") -> None:
        self.what = what
        self.package = package
        self.group = group
        self._entries: dict[str, E] = {}
        self._complete = False

    def add(self, name: str, entry: E, *, replace: bool = False) -> None:
        """Add an entry.

        Raises:
            WhatwhereError: the name is not lower-case letters, digits, ``-`` and ``_``, or is taken (without
                ``replace``).
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise WhatwhereError(f"{name!r} is no name for {_a(self.what)}: lower-case letters, digits, - and _")
        if name in self._entries and not replace:
            raise WhatwhereError(f"the {self.what} {name!r} is registered already: {self._entries[name]}")
        self._entries[name] = entry

    def discard(self, name: str) -> None:
        """Take an entry out, if it is there."""
        self._entries.pop(name, None)

    def names(self) -> list[str]:
        """Return all names, sorted."""
        self._import_all()
        return sorted(self._entries)

    def find(self, name: str) -> E | None:
        """Return the entry of that name among those registered so far, or None."""
        return self._entries.get(name)

    def __getitem__(self, name: str) -> E:
        if isinstance(name, str) and name not in self._entries:
            name = name.lower()  # names are lower-case; so CBAM is found too
        if name not in self._entries:
            self._import_all()
        if name not in self._entries:
            known = ", ".join(self.names())
            own = (
                f". For {_a(self.what)} of your own import its module first (command line: --import MODULE or FILE.py)"
            )
            hint = closest(str(name), self._entries) or (own if self.group else "")
            raise WhatwhereError(f"unknown {self.what} {name!r}: one of {known}{hint}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        self._import_all()
        return (name.lower() if isinstance(name, str) else name) in self._entries

    def __len__(self) -> int:
        return len(self.names())

    def values(self) -> list[E]:
        """Return all entries, in the order of their names."""
        return [self._entries[name] for name in self.names()]

    def registered(self) -> list[E]:
        """Return the entries registered so far, without importing any more."""
        return list(self._entries.values())

    def _import_all(self) -> None:
        if self._complete:
            return
        self._complete = True
        if self.package:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
        for point in metadata.entry_points(group=self.group) if self.group else ():
            try:
                point.load()
            except Exception as error:  # somebody else's package: it must not take everything down
                warnings.warn(
                    f"the entry point {point.name!r} ({point.value}) of {self.group} cannot be loaded and is left out: "
                    f"{type(error).__name__}: {error}",
                    RuntimeWarning,
                    stacklevel=3,
                )
        if self.group:
            import_named()


def _a(what: str) -> str:
    """Return a noun with its article."""
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"
