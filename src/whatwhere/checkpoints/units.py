"""Finding the attentions of other code in the tensors of a checkpoint."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor

from ..errors import WhatwhereError
from ..layers import ATTENTIONS, Entry, KeyMap
from ..layers.key_map import Shapes


@dataclass
class Unit:
    """One attention of a checkpoint.

    Attributes:
        entry: what attention it is.
        key_map: whose names it has.
        name: its own name in the checkpoint.
        module: the module of the network whose output it takes, as the key map says.
        keys: the names here of its tensors → their keys in the file.
        tensors: its tensors by their names here.
    """

    entry: Entry
    key_map: KeyMap
    name: str
    module: str
    keys: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def shapes(self) -> Shapes:
        """Shapes of the tensors by their names here."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    @property
    def options(self) -> tuple[tuple[str, object], ...]:
        """The options of an attention with this formula and these shapes, as far as they are not the defaults."""
        return tuple(self.entry.options_told(self.key_map, self.shapes).items())


def units(tensors: Iterable[tuple[str, Tensor]]) -> tuple[list[Unit], list[str]]:
    """Gather the attentions among tensors of a checkpoint; return them, and the keys that belong to none.

    A key may fit several key maps. It belongs to the attention that takes the most keys; of two that take as many, to
    the one whose key map names fewer parts, so that fewer are missing.

    Raises:
        WhatwhereError: two key maps fit the same keys equally well.
    """
    maps = [(found, key_map) for found in ATTENTIONS.values() for key_map in found.key_maps]
    given = dict(tensors)
    fitting: dict[tuple[int, str], Unit] = {}
    for key, tensor in given.items():
        for number, (found, key_map) in enumerate(maps):
            if match := key_map.match(key):
                name = match["unit"]
                unit = fitting.setdefault((number, name), Unit(found, key_map, name, match.expand(key_map.module)))
                own = key_map.rename(match)
                unit.keys[own] = key
                unit.tensors[own] = key_map.convert(own, tensor)
    owners: dict[str, Unit] = {}
    for unit in sorted(fitting.values(), key=_rank):
        rivals = [owners[key] for key in unit.keys.values() if key in owners]
        equal = next((rival for rival in rivals if _rank(rival) == _rank(unit)), None)
        if equal is not None:
            raise WhatwhereError(
                f"{unit.name} fits {equal.key_map.title!r} and {unit.key_map.title!r} equally well: "
                "give one of the two key maps a more specific unit"
            )
        if not rivals:
            owners |= dict.fromkeys(unit.keys.values(), unit)
    chosen = {id(owners[key]): owners[key] for key in given if key in owners}
    return list(chosen.values()), [key for key in given if key not in owners]


def _rank(unit: Unit) -> tuple[int, int]:
    return -len(unit.keys), len(unit.key_map.parts)
