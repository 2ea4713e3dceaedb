"""The registry of renamers: functions that translate the key names of a whole foreign network."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from ..registry import Registry


@dataclass(frozen=True)
class Renamed:
    """What a renamer made of the tensors of a checkpoint.

    Attributes:
        tensors: those that it knows, under their new keys.
        rest: the others, under their own keys.
        reasons: why the network is not the one that the weights are of. With any, none is loaded.
    """

    tensors: dict[str, Tensor]
    rest: dict[str, Tensor]
    reasons: list[str] = field(default_factory=list)


Rename = Callable[[nn.Module, Container[str], Mapping[str, Tensor]], Renamed]
"""Takes the network, its keys, and the tensors of a checkpoint whose keys the network does not have."""


@dataclass(frozen=True)
class Renamer:
    """A function that renames tensors, and whose names it knows."""

    title: str
    rename: Rename


RENAMERS = Registry[Renamer]("renamer", package=f"{__package__}.foreign", group="whatwhere.renamers")
"""All renamers. Other packages add theirs by naming their module in the entry-point group ``whatwhere.renamers``."""


def renamer(name: str, *, title: str) -> Callable[[Rename], Rename]:
    """Make the names of a whole foreign network known to :func:`whatwhere.load`, as a decorator.

    Args:
        name: its name in :data:`RENAMERS`.
        title: for reports, such as ``"SENet's names"``.

    Example:
        >>> from whatwhere.checkpoints import RENAMERS, Renamed, renamer
        >>> @renamer("upper", title="names in capitals")
        ... def rename_upper(model, wanted, tensors):
        ...     new = {k.lower(): t for k, t in tensors.items() if k.lower() in wanted}
        ...     return Renamed(new, {k: t for k, t in tensors.items() if k.lower() not in new})
        >>> RENAMERS.discard("upper")
    """

    def decorate(rename: Rename) -> Rename:
        before = RENAMERS.find(name)
        again = before is not None and _path(before.rename) == _path(rename)
        RENAMERS.add(name, Renamer(title, rename), replace=again)
        return rename

    return decorate


def _path(function: Rename) -> tuple[str, str]:
    return function.__module__, function.__qualname__
