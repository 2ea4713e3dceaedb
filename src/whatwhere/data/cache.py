"""A folder for what is dear to make and can be made again."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import replacing

Arrays = dict[str, NDArray[Any]]


def cache_folder() -> Path:
    """Return ``$WHATWHERE_CACHE``, or ``$XDG_CACHE_HOME/whatwhere``, or ``~/.cache/whatwhere``."""
    if own := os.environ.get("WHATWHERE_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "whatwhere"


def cache_file(kind: str, key: Mapping[str, Any]) -> Path:
    """Return the file for ``key`` (anything JSON knows), named by a hash of it."""
    text = json.dumps(key, sort_keys=True, separators=(",", ":"))
    return cache_folder() / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"


def cached(file: Path, make: Callable[[], Arrays], valid: Callable[[Arrays], bool]) -> Arrays:
    """Return the arrays in ``file``, or make them and write them there.

    A file that is damaged (zip checksums cover every byte) or not ``valid`` is made anew, with a warning. A cache that cannot be
    written costs a warning, not the arrays. Safe with many processes at once: a file appears whole, under its name, or not.
    """
    if file.exists():
        arrays = _read(file)
        if arrays is not None and valid(arrays):
            return arrays
        warnings.warn(f"the cache file {file} is damaged: making it anew", RuntimeWarning, stacklevel=2)
    arrays = make()
    try:
        _write(file, arrays)
    except OSError as error:
        warnings.warn(
            f"could not write the cache file {file} ({error}); set WHATWHERE_CACHE to a folder that can be written",
            RuntimeWarning,
            stacklevel=2,
        )
    return arrays


def _read(file: Path) -> Arrays | None:
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception:  # damaged bytes raise nearly anything: OSError, BadZipFile, ValueError, TypeError, struct.error
        return None


def _write(file: Path, arrays: Arrays) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file, shared=True) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
