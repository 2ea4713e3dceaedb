"""The file that whatwhere writes: tensors and a record of JSON values in one safetensors file, with a checksum.

The record stands in the file's metadata under the key ``whatwhere``, as ``{"crc32": …, **record}``. Other programs read
the tensors as those of any safetensors file. There is no pickle, so nothing in a file is ever run.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import WhatwhereError
from ..files import replacing

_KEY = "whatwhere"
_FAILURES = (
    KeyError,
    MemoryError,
    OSError,
    RecursionError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)


class DamagedCheckpoint(WhatwhereError):
    """A checkpoint that cannot be read whole; nothing was changed, and nothing else was used in its place.

    Attributes:
        reason: what is wrong with the file, without its name and without advice.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any], *, shared: bool = False
) -> None:
    """Write ``tensors`` and the JSON values of ``record`` to ``path``, whole or not at all.

    Args:
        path: the file.
        tensors: by name, on any device; they may share memory.
        record: JSON values; ``crc32`` is taken.
        shared: several processes may write ``path`` at once, see :func:`whatwhere.files.replacing`.

    Raises:
        OSError: the file cannot be written.
        TypeError: ``record`` holds something that JSON cannot keep.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_tensors(Path(folder) / "a.safetensors", {"x": torch.ones(2)}, {"step": 3})
        ...     read_tensors(Path(folder) / "a.safetensors")
        ({'x': tensor([1., 1.])}, {'step': 3})
    """
    plain = _storable(tensors)
    values = json.loads(json.dumps(dict(record)))
    text = json.dumps({"crc32": _checksum(plain, values), **values})
    with replacing(path, shared=shared) as temporary:
        save_file(plain, temporary, metadata={"format": "pt", _KEY: text})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a safetensors file, on the CPU, and its record; {} where another program wrote the file.

    Raises:
        DamagedCheckpoint: the file is missing, cut off, no safetensors file, or does not fit its checksum.
    """
    try:
        with safe_open(path, framework="pt") as file:
            # a copy: the file stays mapped otherwise, and may be replaced while the tensors are used
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
            record = _parse(file.metadata())
    except _FAILURES as error:
        raise damaged(path, "safetensors", error) from error
    expected = record.pop("crc32", None)
    if expected is not None and _checksum(tensors, record) != expected:
        raise damaged(path, "safetensors", "its checksum does not fit what it holds")
    return tensors, record


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a safetensors file without reading its tensors, so without looking at the checksum.

    Raises:
        DamagedCheckpoint: as :func:`read_tensors`, except that the tensors are not checked.
    """
    try:
        with safe_open(path, framework="pt") as file:
            record = _parse(file.metadata())
    except _FAILURES as error:
        raise damaged(path, "safetensors", error) from error
    record.pop("crc32", None)
    return record


def damaged(path: Path, kind: str, reason: object) -> DamagedCheckpoint:
    """Return the error for a file that is no whole file of its kind ("safetensors", "PyTorch")."""
    if isinstance(reason, BaseException):
        lines = str(reason).strip().splitlines() or [""]
        first = next((line for line in lines if "nsupported" in line), lines[0])
        reason = f"{type(reason).__name__}: {first[:200]}"
    return DamagedCheckpoint(
        f"{path} cannot be read as a {kind} file ({reason}): it is damaged, cut off, or another kind of file. Copy or "
        "download it again; safetensors files and what torch.save wrote (.pth, .pt, .bin) can be read",
        str(reason),
    )


def _parse(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    if not metadata or _KEY not in metadata:
        return {}
    record = json.loads(metadata[_KEY])
    if not isinstance(record, dict) or not isinstance(record.get("crc32"), int):
        raise ValueError("its record has no checksum")
    return record


def _checksum(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> int:
    """Return the CRC-32 of the record and of the names, dtypes, shapes and values of the tensors."""
    value = zlib.crc32(json.dumps(record, sort_keys=True).encode())
    for key in sorted(tensors):
        tensor = tensors[key].contiguous()
        value = zlib.crc32(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        if tensor.numel():
            value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return value


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous CPU tensors of which no two share memory (safetensors refuses shared memory)."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        memory = tensor.untyped_storage()
        plain[key] = tensor.clone() if memory.data_ptr() in seen or memory.nbytes() != tensor.nbytes else tensor
        seen.add(memory.data_ptr())
    return plain
