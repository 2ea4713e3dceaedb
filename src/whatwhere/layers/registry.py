"""The attentions by name: what the factory, the command line, the tests, the benchmarks and the README's table read."""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from ..errors import WhatwhereError
from ..registry import Registry
from .attention import Attention, GatedAttention
from .key_map import KeyMap, Shapes
from .recording import FACTORY, options_of_class
from .trial import signature_faults, trial_faults

Kind = Literal["channel", "spatial", "both", "line", "full", "residual", "replacing", "permuting"]
"""What it does: gates channels, positions, or both by a product; gates rows and columns of every channel; gates every
element by what is no such product; adds to the map; replaces a convolution; permutes channels."""
A = TypeVar("A", bound=type[Attention])


@dataclass(frozen=True)
class Entry:
    """What is known of an attention.

    Attributes:
        name: its name for :func:`whatwhere.create` and the command line.
        cls: its class.
        title: what it is, in a few words.
        paper: the paper's short name, year and arXiv number.
        code: where the official code is.
        formula: what it computes, as plain text.
        kind: see :data:`Kind`.
        exact_identity: whether ``identity=True`` returns the map unchanged at the start, bit for bit.
        any_size: whether it takes maps of every height and width from 1; otherwise sides of 8 and more.
        bounded: whether its gates are between 0 and 2. Others may have any value, also below 0.
        min_channels: the fewest channels that it takes.
        channel_divisor: a number that the channels must be a multiple of.
        is_excitation: whether it is plain squeeze-and-excitation, which :func:`whatwhere.replace` finds in anybody's
            code.
    """

    name: str
    cls: type[Attention]
    title: str
    paper: str
    code: str
    formula: str
    kind: Kind
    exact_identity: bool = True
    any_size: bool = True
    bounded: bool = True
    min_channels: int = 1
    channel_divisor: int = 1
    is_excitation: bool = False

    @property
    def gated(self) -> bool:
        """Whether it multiplies the map by gates, and so has ``gates(x)``."""
        return issubclass(self.cls, GatedAttention)

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The keyword options that its constructor takes, with their defaults."""
        return options_of_class(self.cls)

    @property
    def key_maps(self) -> tuple[KeyMap, ...]:
        """How other code names its tensors."""
        return self.cls.key_maps

    @property
    def replaces(self) -> bool:
        """Whether it stands in the place of a convolution, and not behind a module."""
        return self.kind == "replacing"

    def options_told(self, key_map: KeyMap, shapes: Shapes) -> dict[str, Any]:
        """Return the options that tensors of these shapes have by these names, as far as they are not the defaults."""
        known = self.options
        told = {**key_map.options, **self.cls.options_from_shapes(shapes)}
        return {option: value for option, value in told.items() if option in known and value != known[option].default}

    def __str__(self) -> str:
        """Return name and class."""
        return f"{self.name} ({self.cls.__module__}.{self.cls.__qualname__})"


ATTENTIONS = Registry[Entry]("attention", group="whatwhere.attentions")
"""All attentions. Another package names the module with its own in the entry-point group ``whatwhere.attentions``."""


def register(
    name: str,
    *,
    title: str,
    formula: str,
    kind: Kind,
    paper: str = "",
    code: str = "",
    exact_identity: bool = True,
    any_size: bool = True,
    bounded: bool = True,
    min_channels: int = 1,
    channel_divisor: int = 1,
    is_excitation: bool = False,
    key_maps: tuple[KeyMap, ...] = (),
) -> Callable[[A], A]:
    """Class decorator: make an attention known under ``name``. The arguments are the attributes of :class:`Entry`.

    The class is also tried out: a small one is built and run, in some milliseconds, so that what would fail in
    :func:`whatwhere.insert` or :func:`whatwhere.save` is said here.

    A class of the same module and name replaces the one registered before, as when a module is reloaded.

    Raises:
        WhatwhereError: the name is taken by another class, or something about the class or the arguments is wrong; the
            message lists every fault.

    Example:
        >>> import torch, whatwhere as ww
        >>> @ww.register("half", title="half of the map", formula="x / 2", kind="residual", exact_identity=False)
        ... class Half(ww.Attention):
        ...     def __init__(self, channels, *, identity=False, device=None, dtype=None):
        ...         super().__init__(channels)
        ...     def forward(self, x):
        ...         return x / 2
        >>> ww.create("half", 8)(torch.ones(1, 8, 1, 1)).sum()
        tensor(4.)
        >>> ww.layers.ATTENTIONS.discard("half")
    """

    def decorate(cls: A) -> A:
        found = Entry(
            name,
            cls,
            title,
            paper,
            code,
            formula,
            kind,
            exact_identity,
            any_size,
            bounded,
            min_channels,
            channel_divisor,
            is_excitation,
        )
        faults, entered = [*_class_faults(cls)], [*_entry_faults(found)]
        if isinstance(cls, type) and issubclass(cls, Attention):
            built, methods = [*_constructor_faults(cls)], [*_method_faults(cls), *signature_faults(cls)]
            faults += [*built, *methods]
            if not built and not entered and not cls.__module__.startswith("whatwhere."):  # ours have their own tests
                faults += trial_faults(
                    cls,
                    least=min_channels,
                    divisor=channel_divisor,
                    exact=exact_identity,
                    any_size=any_size,
                    run=not methods,
                )
        faults += entered
        if isinstance(cls, type):
            faults += _key_map_faults(cls, key_maps)
        if faults:
            lines = "".join(f"\n  {fault}" for fault in faults)
            raise WhatwhereError(f"{getattr(cls, '__name__', cls)} cannot be registered as {name!r}:{lines}")
        before = ATTENTIONS.find(name)
        same = before is not None and _path(before.cls) == _path(cls)
        ATTENTIONS.add(name, found, replace=same)
        cls.key_maps = key_maps
        return cls

    return decorate


def add_key_map(name: str, key_map: KeyMap) -> None:
    """Make another code's names of a registered attention known, as for a checkpoint of a repository of one's own.

    Raises:
        WhatwhereError: no such attention, or the key map is wrong or known already.
    """
    cls = entry(name).cls
    if faults := [*_key_map_faults(cls, (*cls.key_maps, key_map))]:
        raise WhatwhereError(f"{key_map.title!r} cannot be added to {name!r}: {'; '.join(faults)}")
    cls.key_maps = (*cls.key_maps, key_map)


def names() -> list[str]:
    """Return the names of all attentions, sorted.

    Example:
        >>> import whatwhere as ww
        >>> "cbam" in ww.names()
        True
    """
    return ATTENTIONS.names()


def entry(name: str) -> Entry:
    """Return what is known of the attention called ``name``, or raise with the nearest known name."""
    return ATTENTIONS[name]


def entry_of(cls: type) -> Entry | None:
    """Return the entry of exactly this class (of no base class), or None."""
    return next((found for found in ATTENTIONS.values() if found.cls is cls), None)


def _path(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def _class_faults(cls: object) -> Iterator[str]:
    """Say if this is no class of an attention."""
    if not (isinstance(cls, type) and issubclass(cls, Attention)):
        yield "it must be a class that derives from whatwhere.Attention or whatwhere.GatedAttention"


def _constructor_faults(cls: type[Attention]) -> Iterator[str]:
    """Say what is wrong with the signature of a constructor."""
    parameters = list(inspect.signature(cls).parameters.values())
    first, rest = parameters[:1], parameters[1:]
    if [(p.name, p.kind) for p in first] != [("channels", inspect.Parameter.POSITIONAL_OR_KEYWORD)]:
        yield f"the constructor's first parameter must be channels, not {first[0] if first else 'missing'}"
    if wrong := [p.name for p in rest if p.kind is not p.KEYWORD_ONLY]:
        yield f"after channels the constructor must take keyword-only options; these are not: {', '.join(wrong)}"
    options = options_of_class(cls)
    if missing := [option for option in ("identity", *FACTORY) if option not in options]:
        yield f"the constructor must take the options {', '.join(missing)}"
    if bare := [option for option, p in options.items() if p.default is p.empty]:
        yield f"options must have defaults; these have none: {', '.join(bare)}"


def _method_faults(cls: type[Attention]) -> Iterator[str]:
    """Say which methods are missing."""
    if issubclass(cls, GatedAttention):
        if cls.steps is GatedAttention.steps and cls.gates is GatedAttention.gates:
            yield "a gated attention must define steps or gates"
    elif cls.forward is Attention.forward:
        yield "it must define forward"


def _entry_faults(found: Entry) -> Iterator[str]:
    """Say what is wrong with an entry."""
    if empty := [field for field in ("title", "formula") if not getattr(found, field)]:
        yield f"{' and '.join(empty)} must not be empty"
    if found.kind not in get_args(Kind):
        yield f"kind={found.kind!r}: must be one of {', '.join(get_args(Kind))}"
    for field in ("min_channels", "channel_divisor"):
        value = getattr(found, field)
        if type(value) is not int or value < 1:
            yield f"{field} must be a whole number of at least 1, not {value!r}"


def _key_map_faults(cls: type, key_maps: tuple[KeyMap, ...]) -> Iterator[str]:
    """Say what is wrong with the key maps of a class."""
    known = [m for e in ATTENTIONS.registered() if _path(e.cls) != _path(cls) for m in e.key_maps]
    for number, key_map in enumerate(key_maps):
        try:
            groups = re.compile(key_map.unit).groupindex
        except re.error as error:
            yield f"the key map {key_map.title!r} has unit={key_map.unit!r}, which is no regular expression: {error}"
            continue
        absent = [group for group in re.findall(r"\\g<(\w+)>", key_map.module) if group not in groups]
        if key_map.unit and absent:
            yield f"the key map {key_map.title!r} needs the group {', '.join(absent)} in unit={key_map.unit!r}"
        if not key_map.parts:
            yield f"the key map {key_map.title!r} names no parts"
        twin = next((m for m in (*known, *key_maps[:number]) if m.unit and _names(m) == _names(key_map)), None)
        if twin is not None:
            yield f"the key map {key_map.title!r} has the names of {twin.title!r}: make its unit more specific"


def _names(key_map: KeyMap) -> tuple[str, frozenset[str]]:
    return key_map.unit, frozenset(key_map.parts)
