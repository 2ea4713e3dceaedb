"""How to build a network again, as JSON: which network, which ghost convolutions, which attention at which site, and
its state.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import WhatwhereError
from ..layers.recording import tuples

VERSION = 1
Side = Literal["output", "nhwc", "input", "child"]


@dataclass(frozen=True)
class Base:
    """The network without ghost convolutions and attention.

    Attributes:
        builder: ``whatwhere``, ``timm`` or ``torchvision``.
        name: its name there.
        options: what else the builder is given.
    """

    builder: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return it as it is written for ``base=`` and ``options=``."""
        options = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        return f"{self.builder}:{self.name}" + (f" with {options}" if options else "")


@dataclass(frozen=True)
class AttentionSpec:
    """One attention.

    Attributes:
        module: the module that it is applied to, or its own name.
        side: what it is applied to: that module's ``output``, an output in ``nhwc`` order, or its ``input``; ``child``
            if the network's own code calls it.
        name: of the attention.
        channels: C of its maps.
        options: those that are not the defaults.
        defined_in: the module of its class, where that is not one of whatwhere's; files of older versions do not say.
    """

    module: str
    side: Side
    name: str
    channels: int
    options: dict[str, Any] = field(default_factory=dict)
    defined_in: str = ""


@dataclass(frozen=True)
class GhostSpec:
    """One ghost convolution that took the place of a convolution.

    Attributes:
        module: its name, and that of the convolution.
        ratio: how many maps there are for each computed one.
        cheap_kernel_size: side of its depthwise convolutions.
        ordered: whether it has an order of its maps.
    """

    module: str
    ratio: int
    cheap_kernel_size: int
    ordered: bool


@dataclass(frozen=True)
class ModelSpec:
    """Everything of a network but the values of its tensors.

    Attributes:
        base: the network without ghost convolutions and attention.
        attention: every attention in it.
        dtype: of all its floating-point tensors, such as ``bfloat16``; None where they differ (each tensor has its own
            in the file).
        training: whether it is in training mode.
        other_mode: names of the modules that are not in the mode that ``training`` says.
        tied: keys of tensors that are the same as another key's.
        whatwhere: version of the package that wrote it.
        ghosts: every ghost convolution in it; files of older versions have none and do not say so.
    """

    base: Base
    attention: tuple[AttentionSpec, ...] = ()
    dtype: str | None = None
    training: bool = False
    other_mode: tuple[str, ...] = ()
    tied: dict[str, str] = field(default_factory=dict)
    whatwhere: str = ""
    ghosts: tuple[GhostSpec, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, values: Any, path: Path) -> "ModelSpec":
        """Check what a file says, and take it.

        Raises:
            WhatwhereError: it is of a newer version, or something in it is not what it should be.
        """
        found = _Checked(values, path)
        version = found.take("version", int)
        if version != VERSION:
            raise WhatwhereError(
                f"{path} has a spec of version {version} (written by whatwhere {values.get('whatwhere', '?')}), and "
                f"this whatwhere reads version {VERSION}: install the version that wrote it, or a newer one"
            )
        base = _Checked(found.take("base", dict), path)
        return cls(
            Base(base.take("builder", str), base.take("name", str), base.take("options", dict)),
            tuple(_inserted(_Checked(one, path)) for one in found.take("attention", list, tuple)),
            found.take("dtype", str, type(None)),
            found.take("training", bool),
            tuple(found.take("other_mode", list, tuple, inside=str)),
            dict(found.take("tied", dict, inside=str)),
            found.take("whatwhere", str),
            tuple(_ghost(_Checked(one, path)) for one in found.take("ghosts", list, tuple))
            if "ghosts" in found.values
            else (),
        )


def _inserted(one: "_Checked") -> AttentionSpec:
    side = one.take("side", str)
    if side not in get_args(Side):
        raise one.wrong(f"side={side!r}")
    options = {key: tuples(value) for key, value in one.take("options", dict).items()}
    defined_in = one.take("defined_in", str) if "defined_in" in one.values else ""
    return AttentionSpec(
        one.take("module", str), side, one.take("name", str), one.take("channels", int), options, defined_in
    )


def _ghost(one: "_Checked") -> GhostSpec:
    return GhostSpec(
        one.take("module", str), one.take("ratio", int), one.take("cheap_kernel_size", int), one.take("ordered", bool)
    )


class _Checked:
    """JSON values that are checked before they are used."""

    def __init__(self, values: Any, path: Path) -> None:
        self.path = path
        if not isinstance(values, Mapping):
            raise self.wrong(f"{type(values).__name__} where an object is expected")
        self.values = values

    def wrong(self, what: str) -> WhatwhereError:
        """Return the error for a spec with something wrong in it."""
        return WhatwhereError(
            f"{self.path} has a spec that whatwhere did not write ({what}): take another copy of the file"
        )

    def take(self, key: str, *kinds: type, inside: type | None = None) -> Any:
        """Return the value of ``key``, checked to be of one of these kinds and its items of the kind ``inside``."""
        value = self.values.get(key, self)
        if type(value) not in kinds:
            raise self.wrong(f"{key} is {'missing' if value is self else type(value).__name__}")
        items: Callable[[], Any] = value.values if isinstance(value, dict) else lambda: value
        if inside and not all(isinstance(item, inside) for item in items()):
            raise self.wrong(f"{key} has a wrong item")
        return value
