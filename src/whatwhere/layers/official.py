"""Loading the state dict of one attention by the names of its official code."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError
from .key_map import KeyMap, Shapes
from .recording import options_of_class

_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class _Reading:
    """A state dict as one key map reads it.

    Attributes:
        key_map: the key map.
        tensors: by their names here.
        keys: names here → keys there.
        unexpected: the keys that it does not know.
    """

    key_map: KeyMap
    tensors: dict[str, Tensor]
    keys: dict[str, str]
    unexpected: list[str]

    @property
    def shapes(self) -> Shapes:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


def load_official(
    attention: nn.Module, key_maps: Sequence[KeyMap], settings: Mapping[str, Any], state_dict: Mapping[str, Tensor]
) -> None:
    """Load ``state_dict`` into ``attention``, see :meth:`whatwhere.Attention.load_official`.

    Of several key maps the one counts that knows most keys; of equal ones, the first whose options are those of the
    attention.
    """
    name = type(attention).__name__
    strange = [key for key, tensor in state_dict.items() if not isinstance(tensor, Tensor)]
    if strange:
        raise WhatwhereError(f"a state dict of tensors is needed, and {strange[0]!r} is none: pass what is inside it")
    here = attention.state_dict(keep_vars=True)
    readings = [reading for key_map in key_maps if (reading := _read(key_map, state_dict)).tensors]
    if not readings:
        raise WhatwhereError(_unknown(name, key_maps, state_dict, here))
    most = max(len(reading.tensors) for reading in readings)
    best = [reading for reading in readings if len(reading.tensors) == most]
    differing = {id(r): r.key_map.difference(settings, r.shapes) for r in best}
    chosen = next((reading for reading in best if not differing[id(reading)]), best[0])
    tensors = {**blank_biases(attention, chosen.tensors), **chosen.tensors}
    missing = [key for key in here if key not in tensors and not key.endswith(_COUNTER)]
    unexpected = [*chosen.unexpected, *(key for own, key in chosen.keys.items() if own not in here)]
    problems = {
        "of another formula": [differing[id(chosen)]] if differing[id(chosen)] else [],
        "missing": [_theirs(chosen.key_map, key) for key in missing],
        "left over": unexpected,
        "of another shape": [
            f"{chosen.keys.get(key, key)} ({tuple(here[key].shape)} here, {tuple(tensor.shape)} there)"
            for key, tensor in tensors.items()
            if key in here and here[key].shape != tensor.shape
        ],
        "too large for the dtype here": [
            f"{chosen.keys.get(key, key)} ({here[key].dtype})"
            for key, tensor in tensors.items()
            if key in here and not tensor.to(here[key].dtype).isfinite().all() and tensor.isfinite().all()
        ],
    }
    if any(problems.values()):
        lines = [
            f"  {what}: {', '.join(found[:10])}{f', … ({len(found)} in all)' if len(found) > 10 else ''}"
            for what, found in problems.items()
            if found
        ]
        raise WhatwhereError(
            f"this state dict (names of {chosen.key_map.title}) does not fit this {name}:\n" + "\n".join(lines)
        )
    meta = next((key for key, tensor in here.items() if tensor.is_meta), None)
    if meta is not None:
        raise WhatwhereError(f"{meta} is on the meta device: give it memory with to_empty(device=...) first")
    with torch.no_grad():
        for key, tensor in tensors.items():
            here[key].copy_(tensor)


def blank_biases(attention: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return biases of 0 for the dense layers of a checkpoint without biases, if they are an option of the attention.

    The formula is the same then.
    """
    layers = {name: m for name, m in attention.named_modules() if isinstance(m, nn.Linear) and m.bias is not None}
    if "bias" not in options_of_class(type(attention)) or any(f"{name}.bias" in tensors for name in layers):
        return {}
    return {f"{name}.bias": torch.zeros(m.out_features) for name, m in layers.items() if f"{name}.weight" in tensors}


def _read(key_map: KeyMap, state_dict: Mapping[str, Tensor]) -> _Reading:
    """Read the keys that stand under the prefix that most of the known ones have."""
    matches = {key: match for key in state_dict if (match := key_map.match_alone(key))}
    prefixes = Counter(match["unit"] for match in matches.values())
    prefix = prefixes.most_common(1)[0][0] if prefixes else None
    reading = _Reading(key_map, {}, {}, [])
    for key, tensor in state_dict.items():
        if key in matches and matches[key]["unit"] == prefix:
            name = key_map.rename(matches[key])
            reading.tensors[name] = key_map.convert(name, tensor)
            reading.keys[name] = key
        else:
            reading.unexpected.append(key)
    return reading


def _theirs(key_map: KeyMap, name: str) -> str:
    """Return the name there of a tensor, or the name here where it has none."""
    for theirs, ours in key_map.parts.items():
        if name == ours or name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    return name


def _unknown(
    name: str, key_maps: Sequence[KeyMap], state_dict: Mapping[str, Tensor], here: Mapping[str, Tensor]
) -> str:
    """Say that none of the names is known, and what to do."""
    came = ", ".join(list(state_dict)[:5]) or "nothing"
    if any(key in here for key in state_dict):
        return f"these are the names of whatwhere itself ({came}): use {name}.load_state_dict"
    known = "; ".join(f"{key_map.title}: {', '.join(list(key_map.parts)[:5])}" for key_map in key_maps)
    if not known:
        return (
            f"no official names of {name} are known: rename the keys ({came}) to {', '.join(here)} and use "
            "load_state_dict"
        )
    return f"none of these names is known for {name} ({came}). Known are {known}"
