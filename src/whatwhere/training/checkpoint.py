"""Tensors and a few plain values in one safetensors file, with a checksum and without pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..checkpoints.tensors import checksum
from ..errors import WhatwhereError
from ..files import replacing

_KEY = "whatwhere"


class DamagedCheckpoint(WhatwhereError):
    """A checkpoint that cannot be read whole; nothing was changed, and nothing else was used in its place."""


def save(path: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write ``tensors`` and the JSON values ``info`` to ``path``, whole or not at all."""
    plain = _storable(tensors)
    meta = {"format": "pt", _KEY: json.dumps({"crc32": checksum(plain), "info": dict(info)})}
    with replacing(path) as temporary:
        save_file(plain, temporary, metadata=meta)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what :func:`save` wrote, the tensors on the CPU.

    Raises:
        DamagedCheckpoint: the file is cut off, was changed, or was not written by :func:`save`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            # a copy: the file stays mapped otherwise, and may be replaced while the tensors are used
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
            record = json.loads((file.metadata() or {})[_KEY])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    if checksum(tensors) != record["crc32"]:
        raise _damaged(path, "its checksum does not fit its tensors")
    return tensors, record["info"]


def read_info(path: Path) -> dict[str, Any]:
    """Return only the values of :func:`save`'s ``info``, without reading the tensors.

    Raises:
        DamagedCheckpoint: as :func:`load`, except that the tensors are not checked.
    """
    try:
        with safe_open(path, framework="pt") as file:
            info: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])["info"]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    return info


def _damaged(path: Path, reason: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(
        f"the checkpoint {path} is damaged ({reason}). Nothing was changed. Put a good copy in its place, or delete it "
        "to train again from the beginning"
    )


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors, none of which shares memory with another (safetensors refuses shared memory)."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        where = tensor.untyped_storage().data_ptr()
        if where in seen or tensor.untyped_storage().nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        plain[key] = tensor
    return plain


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state into tensors by name (``optimizer.12.exp_avg``) and JSON values by the same names."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            (tensors if isinstance(value, Tensor) else values)[f"optimizer.{index}.{name}"] = value
    return tensors, values


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    """Put :func:`pack_optimizer`'s state back into an optimizer that was built from the same recipe."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **values}.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
