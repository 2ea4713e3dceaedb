"""Reading the tensors of a checkpoint from any kind of file or folder, without running anything from it."""

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import WhatwhereError
from .container import damaged, read_tensors

WEIGHTS = "model.safetensors"
"""The name of the weights in a folder for the Hugging Face hub."""
_FOLDER = (WEIGHTS, "pytorch_model.bin")
_INSIDE = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "weights", "params", "module"),
    *("state_dict_ema", "model_ema", "ema"),
)


@dataclass(frozen=True)
class Source:
    """What a checkpoint holds.

    Attributes:
        path: the file that was read.
        container: the kind of file, in words.
        tensors: by the names in the file.
        spec: how to build the network, as JSON; None where the file does not say.
        attention: the attention in a run folder's configuration, such as ``cbam:paper``; None otherwise.
    """

    path: Path
    container: str
    tensors: dict[str, Tensor]
    spec: Any = None
    attention: str | None = None


def read(path: str | os.PathLike[str], checkpoint: Literal["best", "last"] = "best") -> Source:
    """Read a safetensors file, a PyTorch file, a run folder, or a folder as on the Hugging Face hub.

    Args:
        path: the file or folder.
        checkpoint: which checkpoint of a run folder.

    Returns:
        What it holds, the tensors on the CPU.

    Raises:
        WhatwhereError: nothing is there, it is none of these, or it holds more than tensors and plain values.
        DamagedCheckpoint: it is cut off or damaged.
    """
    given = Path(path)
    if checkpoint not in ("best", "last"):
        raise WhatwhereError(f"checkpoint={checkpoint!r}: must be 'best' or 'last'")
    if given.is_dir():
        return _read_folder(given, checkpoint)
    if not given.exists():
        raise WhatwhereError(f"there is no file {given}: give a .safetensors, .pth or .pt file, or the folder of a run")
    return _read_file(given)


def _read_file(path: Path) -> Source:
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise WhatwhereError(f"{path} cannot be read: {error}") from error
    if not head:
        raise WhatwhereError(f"{path} is empty: copy or download it again")
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return read_safetensors(path)
    return _read_pickle(path)


def read_safetensors(path: Path) -> Source:
    """Read a safetensors file, and check it against its checksum where whatwhere wrote one.

    Raises:
        DamagedCheckpoint: it is cut off or damaged.
    """
    tensors, record = read_tensors(path)
    info = record.get("info")
    if isinstance(info, dict) and "optimizer" in info:  # the whole state of a training run
        prefix = "ema.module." if "ema.n_averaged" in tensors else "model."
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return Source(path, "safetensors file", tensors, record.get("spec"))


def _read_pickle(path: Path) -> Source:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        text = str(error)
        if "TorchScript" in text:
            raise WhatwhereError(
                f"{path} is a TorchScript archive, which holds code: save the state_dict() of torch.jit.load(...) "
                "instead"
            ) from error
        what = next((line.strip() for line in text.splitlines() if "nsupported" in line), "")
        if what and "operand" not in what:
            raise WhatwhereError(
                f"{path} holds more than tensors and plain values, and nothing of it was run ({what[:160]}). Where its "
                "code is trusted, save only the weights: torch.save(model.state_dict(), ...)"
            ) from error
        raise damaged(path, "PyTorch", error) from error
    tensors, inside = _find(content, path)
    return Source(path, f"PyTorch file{inside}", tensors)


def _find(content: Any, path: Path, depth: int = 0) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a state dict, which may be inside a dict under one of the usual names."""
    if not isinstance(content, Mapping):
        raise WhatwhereError(f"{path} holds a {type(content).__name__}, where a dict of tensors by name is expected")
    for name in _INSIDE:
        inner = content.get(name)
        if isinstance(inner, Mapping) and inner and depth < 4:
            found, deeper = _find(inner, path, depth + 1)
            return found, f", under {name!r}{deeper}"
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not tensors:
        keys = ", ".join(repr(key) for key in list(content)[:8])
        raise WhatwhereError(
            f"{path} holds no tensors by name: it is a dict with {keys or 'nothing in it'}; the weights are expected "
            f"there, or under one of {', '.join(_INSIDE)}"
        )
    return {key: tensor.detach() for key, tensor in tensors.items()}, ""


def _read_folder(folder: Path, checkpoint: str) -> Source:
    """Read the weights of a run folder or of a folder as on the Hugging Face hub."""
    file = folder / f"{checkpoint}.safetensors"
    config = folder / "config.json"
    if file.exists() and config.exists():
        container = f"run folder, {checkpoint} checkpoint"
        return replace(read_safetensors(file), container=container, attention=_attention(config))
    for name in _FOLDER:
        if (folder / name).exists():
            return _read_file(folder / name)
    runs = sorted(str(p.parent.relative_to(folder)) for p in folder.glob(f"**/{checkpoint}.safetensors"))
    hint = f"; there are runs in {', '.join(runs[:5])}{' …' if len(runs) > 5 else ''}" if runs else ""
    raise WhatwhereError(
        f"{folder} has neither a run's {file.name} and config.json nor {' or '.join(_FOLDER)}{hint}. Give a file, or "
        "the folder of a run that has been measured once"
    )


def _attention(config: Path) -> str | None:
    try:
        found = json.loads(config.read_text(encoding="utf-8"))["config"]["model"]["attention"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None
