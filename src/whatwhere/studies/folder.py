"""The folder of a study: what was asked for, so that a study that was stopped goes on in the same way."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from ..errors import WhatwhereError
from ..files import write_text
from ..tasks import plain
from ..training.folder import flat
from .config import StudyConfig

STUDY = "study.json"
"""The file that makes a folder that of a study."""

_FREE = ("out", "on", "jobs", "collect")  # may differ when a study goes on: change nothing in its runs


class StudyFolder:
    """The folder of a study, and how many runs it makes at a time with how many CPU threads each.

    The number of threads stays as it was when a study goes on, because another one may change the last bits of the
    weights; how many run at a time stays too, unless the config says so.

    Raises:
        WhatwhereError: the folder holds something else, or a study with other options, or there is nothing to collect.
    """

    def __init__(self, config: StudyConfig) -> None:
        self.path = Path(config.out)
        self.file = self.path / STUDY
        described = {key: value for key, value in plain(config).items() if key not in _FREE}
        self.asked: dict[str, Any] = json.loads(json.dumps(described, default=str))
        if self.file.exists():
            workers, self.threads = self._read()
            self.workers = config.jobs or workers
        elif config.collect:
            raise WhatwhereError(f"{self.path} holds no study: there is nothing to collect")
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise WhatwhereError(f"{self.path} is there already and is not a study: choose another --out")
        else:
            self.workers, self.threads = _share_cores(config)

    def claim(self) -> None:
        """Make the folder this study's own, once everything that can be wrong with the options has been checked.

        Raises:
            WhatwhereError: it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()
            if not self.file.exists():
                content = {"study": self.asked, "workers": self.workers, "threads": self.threads}
                write_text(self.file, json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise WhatwhereError(f"the study's folder {self.path} cannot be written: {error.strerror}") from error

    def _read(self) -> tuple[int, int]:
        try:
            there = json.loads(self.file.read_text(encoding="utf-8"))
            options, workers, threads = flat(there["study"]), int(there["workers"]), int(there["threads"])
        except (ValueError, KeyError, TypeError) as error:
            raise WhatwhereError(f"{self.file} is damaged: remove {self.path} or choose another --out") from error
        asked = flat(self.asked)
        options = {key: value for key, value in options.items() if key not in _FREE}
        differing = [key for key in asked | options if asked.get(key) != options.get(key)]
        if differing:
            raise WhatwhereError(
                f"{self.path} holds a study with other options ({', '.join(differing)}): choose another --out, or "
                "remove it"
            )
        return workers, threads


def _share_cores(config: StudyConfig) -> tuple[int, int]:
    """Return how many runs to make at a time, and the CPU threads of each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    on_gpu = torch.cuda.is_available() and config.recipe.device != "cpu"
    workers = config.jobs or (1 if on_gpu else min(cores, 8))
    return workers, config.recipe.threads or max(1, cores // workers)
