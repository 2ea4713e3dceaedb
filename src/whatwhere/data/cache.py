"""A cache on the disk for arrays that take long to make."""

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
    """Return ``$WHATWHERE_CACHE``, or else ``$XDG_CACHE_HOME/whatwhere``, or else ``~/.cache/whatwhere``."""
    if own := os.environ.get("WHATWHERE_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "whatwhere"


def cache_file(kind: str, key: Mapping[str, Any]) -> Path:
    """Return the cache file for ``key`` (JSON values), named by a hash of it."""
    text = json.dumps(key, sort_keys=True, separators=(",", ":"))
    return cache_folder() / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"


def cached(file: Path, make: Callable[[], Arrays], valid: Callable[[Arrays], bool]) -> Arrays:
    """Return the arrays in ``file``; where it does not exist, make them and write them there.

    A file that is damaged (zip checksums cover every byte) or not ``valid`` is made again, with a warning. Where the
    cache cannot be written, a warning says so and the arrays are returned all the same. Several processes may do this
    at once, because a file is written whole or not at all.

    Example:
        >>> import tempfile, numpy as np
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = cached(Path(folder) / "a.npz", lambda: {"x": np.arange(3)}, lambda arrays: True)
        ...     again = cached(Path(folder) / "a.npz", lambda: {"x": np.zeros(3)}, lambda arrays: True)
        >>> again["x"]
        array([0, 1, 2])
    """
    if file.exists():
        arrays = _read(file)
        if arrays is not None and valid(arrays):
            return arrays
        warnings.warn(f"the cache file {file} is damaged: making it again", RuntimeWarning, stacklevel=2)
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
