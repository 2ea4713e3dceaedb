"""The run folder: what was asked for, what was measured, and one run at a time in it."""

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import WhatwhereError
from ..files import write_bytes, write_text

_FREE = ("recipe.workers",)  # may differ on resume: does not change the result
_COMPARED = ("task", "config", "recipe")


class FolderInUse(WhatwhereError):
    """Another process is training in the folder."""


class RunFolder:
    """``config.json``, ``metrics.jsonl``, ``tensorboard/``, ``last.safetensors`` and ``best.safetensors`` of one run.

    ``config.json`` alone reproduces the run: its task, the task's configuration, and the recipe. ``metrics.jsonl`` has
    a row an epoch (``"kind": "epoch"``) and one every few steps (``"kind": "step"``). ``machines.json`` lists the kinds
    of machine that it was trained on: more than one where it was resumed on another. ``scores.npz`` has the score of
    every test image after the last epoch, where the task gives scores. A task may add its own files.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.machines = self.path / "machines.json"
        self.tensorboard = self.path / "tensorboard"
        self.last = self.path / "last.safetensors"
        self.best = self.path / "best.safetensors"
        self.scores = self.path / "scores.npz"

    def check(self, description: Mapping[str, Any], *, resume: bool) -> None:
        """Raise unless a run that is described by ``description`` may start, or go on, here.

        Raises:
            WhatwhereError: the folder holds a run and ``resume`` is off, holds another run, or is not a folder.
        """
        if self.path.exists() and not self.path.is_dir():
            raise WhatwhereError(f"{self.path} is a file; a run needs a folder of its own")
        if not self.config.exists():
            if self.last.exists() or self.metrics.exists():
                raise WhatwhereError(f"{self.path} holds files of a run but no config.json; take another folder")
            return
        if not resume:
            raise WhatwhereError(
                f"{self.path} already holds a run; resume it (resume=True, --resume) or take another folder"
            )
        there = self.read_config()
        differing = differences(there, description)
        if differing:
            raise WhatwhereError(
                f"the run in {self.path} was started differently:\n"
                + "\n".join(f"  - {line}" for line in differing)
                + "\nresume it as it was started, or take another folder"
            )

    def read_config(self) -> dict[str, Any]:
        """Return ``config.json``.

        Raises:
            WhatwhereError: it is missing or not what a run writes.
        """
        if not self.config.exists():
            raise WhatwhereError(f"{self.path} is not a run folder: it has no config.json{self._runs_below()}")
        try:
            config = json.loads(self.config.read_text(encoding="utf-8"))
            if all(key in config for key in _COMPARED):
                return dict(config)
        except ValueError:
            pass
        raise WhatwhereError(f"{self.config} is damaged: it is not the JSON that a run writes")

    def _runs_below(self) -> str:
        """Name the runs in the folders below, as of a study, in words."""
        below = sorted(file.parent for depth in ("*", "*/*") for file in self.path.glob(f"{depth}/config.json"))
        if not below:
            return "" if self.path.is_dir() else "; there is no such folder"
        kind = "a study, with the runs" if (self.path / "study.json").exists() else "the runs"
        return f". It holds {kind} {', '.join(map(str, below[:5]))}{' …' if len(below) > 5 else ''}: give one of them"

    def write_config(self, description: Mapping[str, Any]) -> None:
        """Make the folder and write ``config.json``, unless it is there already."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.config.exists():
            write_text(self.config, json.dumps(description, indent=2) + "\n")

    def read_machines(self) -> list[dict[str, str]]:
        """Return the kinds of machine that the run was trained on, the first one first; none where none is recorded."""
        try:
            there = json.loads(self.machines.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return [dict(kind) for kind in there]

    def add_machine(self, kind: Mapping[str, str]) -> None:
        """Record a kind of machine that the run is trained on, unless it is there already."""
        there = self.read_machines()
        if dict(kind) not in there:
            write_text(self.machines, json.dumps([*there, dict(kind)], indent=2) + "\n")

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row to ``metrics.jsonl``; rows of epochs are synced to the disk."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({key: _finite(value) for key, value in row.items()}, allow_nan=False) + "\n")
            if row.get("kind") == "epoch":
                file.flush()
                os.fsync(file.fileno())

    def rows(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the rows of ``metrics.jsonl``, all or of one kind; a line that a kill cut off is left out."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and kind in (None, row.get("kind")):
                rows.append(row)
        return rows

    def write_scores(self, indices: Sequence[int], scores: Sequence[float]) -> None:
        """Write ``scores.npz``: ``index``, the numbers of the test images, ascending, and ``score``."""
        order = np.argsort(indices)
        file = io.BytesIO()
        np.savez_compressed(file, index=np.asarray(indices, np.int64)[order], score=np.asarray(scores)[order])
        write_bytes(self.scores, file.getvalue())

    def read_scores(self) -> dict[str, Any] | None:
        """Return the arrays ``index`` and ``score`` of ``scores.npz``, or None where there is none."""
        if not self.scores.exists():
            return None
        with np.load(self.scores) as arrays:
            return {"index": arrays["index"], "score": arrays["score"]}

    def cut(self, step: int) -> None:
        """Drop the rows that were written after ``step`` steps: they will be measured again."""
        if self.metrics.exists():
            kept = [json.dumps(row) + "\n" for row in self.rows() if row.get("step", 0) <= step]
            write_text(self.metrics, "".join(kept))

    def lock(self) -> "Lock":
        """Return a lock (a context manager) that one process at a time can hold for this folder."""
        return Lock(self.path / ".lock")


class Lock:
    """Held by the process that trains in a folder; the system frees it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: IO[str] | None = None

    def __enter__(self) -> "Lock":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.open("a")
        try:
            _lock(self.file)
        except (BlockingIOError, PermissionError) as error:
            self.file.close()
            raise FolderInUse(f"another process is training in {self.path.parent}; wait for it or stop it") from error
        except OSError:
            pass  # a file system without locks
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()


def _lock(file: IO[str]) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return one line for each field of task, configuration and recipe in which two runs differ."""
    old, new = ({k: v for key in _COMPARED for k, v in flat(side[key], key).items()} for side in (there, here))
    absent = "(absent)"
    return [
        f"{key}: {old.get(key, absent)} there, {new.get(key, absent)} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, absent) != new.get(key, absent) and key not in _FREE
    ]


def flat(value: Any, key: str = "") -> dict[str, str]:
    """Return nested dictionaries as one, ``{"a.b": …}``, with values as JSON; all names start with ``key``."""
    if isinstance(value, Mapping) and value:
        start = f"{key}." if key else ""
        return {k: v for name, item in value.items() for k, v in flat(item, f"{start}{name}").items()}
    return {key: json.dumps(value)}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
