"""Dataclasses to plain dictionaries (for JSON) and back, without losing or inventing a field."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import WhatwhereError, closest

T = TypeVar("T")


def plain(value: Any) -> Any:
    """Return ``value`` as JSON knows it: dataclasses become dictionaries, tuples become lists.

    Example:
        >>> from whatwhere.data import DataConfig
        >>> plain({"data": DataConfig(size=32), "sizes": (1, 2)})
        {'data': {'data': 'scenes', 'size': 32, ...}, 'sizes': [1, 2]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def restore(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass ``cls`` from what :func:`plain` made of it; missing fields take their defaults.

    Raises:
        WhatwhereError: a key that ``cls`` does not have, or a required field that is missing.
    """
    hints = typing.get_type_hints(cls)
    allowed = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    unknown = [f"{where + key!r}{closest(key, allowed)}" for key in values if key not in allowed]
    if unknown:
        raise WhatwhereError(
            f"{cls.__name__} has no field {', no field '.join(unknown)}; its fields: {', '.join(allowed)}"
        )
    built = {key: _revive(hints[key], item, f"{where}{key}.") for key, item in values.items()}
    try:
        return cls(**built)
    except TypeError as error:
        raise WhatwhereError(f"{cls.__name__} cannot be built from {dict(values)}: {error}") from error


def _revive(hint: Any, value: Any, where: str) -> Any:
    nested = _dataclass_in(hint)
    if nested is not None and isinstance(value, Mapping):
        return restore(nested, value, where)
    if isinstance(value, list):
        return tuple(_revive(None, item, where) for item in value)
    return value


def _dataclass_in(hint: Any) -> type[Any] | None:
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return next((option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option)), None)
