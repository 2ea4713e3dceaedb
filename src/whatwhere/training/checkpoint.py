"""The checkpoints of a training run: tensors and a few JSON values in one file, an optimizer's state among them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.container import DamagedCheckpoint, damaged, read_record, read_tensors, write_tensors


def save(path: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write ``tensors`` and the JSON values ``info`` to ``path``, whole or not at all."""
    write_tensors(path, tensors, {"info": dict(info)})


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what :func:`save` wrote, the tensors on the CPU.

    Raises:
        DamagedCheckpoint: the file is cut off, was changed, or was not written by :func:`save`.
    """
    with _advice(path):
        tensors, record = read_tensors(path)
        return tensors, _info(path, record)


def read_info(path: Path) -> dict[str, Any]:
    """Return only the values of :func:`save`'s ``info``, without reading the tensors.

    Raises:
        DamagedCheckpoint: as :func:`load`, except that the tensors are not checked.
    """
    with _advice(path):
        return _info(path, read_record(path))


def _info(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    info = record.get("info")
    if not isinstance(info, dict):
        raise damaged(path, "safetensors", "no training run wrote it")
    return info


@contextmanager
def _advice(path: Path) -> Iterator[None]:
    """Say what to do about a run's damaged checkpoint."""
    try:
        yield
    except DamagedCheckpoint as error:
        raise DamagedCheckpoint(
            f"the checkpoint {path} is damaged ({error.reason}). Nothing was changed. Put a good copy in its place, or "
            "delete it to train again from the beginning",
            error.reason,
        ) from error


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split the state of an optimizer into tensors and JSON values, both by name (``optimizer.12.exp_avg``)."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            (tensors if isinstance(value, Tensor) else values)[f"optimizer.{index}.{name}"] = value
    return tensors, values


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    """Restore the state that :func:`pack_optimizer` returned, in an optimizer that was built from the same recipe."""
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
