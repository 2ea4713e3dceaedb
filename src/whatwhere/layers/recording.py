"""Recording the options that a module was constructed with."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

FACTORY = ("device", "dtype")
"""Where parameters are made and of which type: no part of what an attention computes, so never recorded."""


def options_of_class(cls: type) -> dict[str, inspect.Parameter]:
    """Return the keyword-only options of a class's constructor."""
    parameters = inspect.signature(cls).parameters
    return {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def recording(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor so that the instance keeps the options of the call as ``init_options``.

    Only the constructor of the instance's own class records, not those that it calls with ``super().__init__``. Left
    out are the first argument (the channels), options at their defaults, ``device`` and ``dtype``; lists become tuples.
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def record(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if type(self).__init__ is record:
            self.init_options = _chosen(signature, signature.bind(self, *args, **kwargs))

    record.__records__ = True  # type: ignore[attr-defined]
    return record


def _chosen(signature: inspect.Signature, call: inspect.BoundArguments) -> dict[str, Any]:
    """Return the options of a call that are not the defaults."""
    chosen: dict[str, Any] = {}
    for name, value in list(call.arguments.items())[2:]:
        parameter = signature.parameters[name]
        if parameter.kind is parameter.VAR_KEYWORD:
            chosen |= value
        elif not _same(tuples(value), parameter.default):
            chosen[name] = value
    return {name: tuples(value) for name, value in chosen.items() if name not in FACTORY}


def tuples(value: Any) -> Any:
    """Return a value with every list in it, at any depth, as a tuple."""
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value


def _same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and value == default)
