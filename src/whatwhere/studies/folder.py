"""The folder of a study: what was asked for, so that a study that was stopped goes on in the same way."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from ..errors import WhatwhereError
from ..files import write_text
from ..tables import counted
from ..tasks import plain
from ..training.folder import flat
from .config import StudyConfig

STUDY = "study.json"
"""The file that makes a folder that of a study."""

_WHERE = ("out", "on", "jobs", "collect")  # say where runs are made, if at all: no part of what the study is
_LATER = ("seeds", "until_decided", "max_seeds", "minutes", "margin", "images", "costs")  # leave each run as it is


class StudyFolder:
    """The folder of a study, and how many runs it makes at a time with how many CPU threads each.

    The number of threads stays as it was when a study goes on, because another one may change the last bits of the
    weights; how many run at a time stays too, unless the config says so. The folder also keeps at how many seeds the
    results were looked at, so that a study which is given more seeds later corrects its verdicts for the looks before.

    Attributes:
        begun: the options that the study was begun with.
        looks: the numbers of seeds at which the results were looked at so far.
        first_margin: the margin that the study was begun with.

    Raises:
        WhatwhereError: the folder holds something else, a study with other options, or one that has more seeds already;
            or there is nothing to collect.
    """

    def __init__(self, config: StudyConfig) -> None:
        self.path = Path(config.out)
        self.file = self.path / STUDY
        described = {key: value for key, value in plain(config).items() if key not in _WHERE}
        self.asked: dict[str, Any] = json.loads(json.dumps(described, default=str))
        self.looks: list[int] = []
        self.first_margin: float | None = config.margin
        self.begun = self.asked
        if self.file.exists():
            workers, self.threads = self._read()
            self.workers = config.jobs or workers
            if max(self.looks, default=0) > config.most:
                raise WhatwhereError(
                    f"{self.path} holds a study of {counted(max(self.looks), 'seed')}: it can be given more, not fewer "
                    f"({config.most}); choose another --out for a smaller one"
                )
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
                self._write()
        except OSError as error:
            raise WhatwhereError(f"the study's folder {self.path} cannot be written: {error.strerror}") from error

    def fixed(self, config: StudyConfig) -> bool:
        """Return whether the study was begun with this number of seeds, or with these looks."""
        keys = ("until_decided", "max_seeds") if config.until_decided else ("until_decided", "seeds")
        return all(self.begun.get(key, False) == getattr(config, key) for key in keys)

    def looked(self, seeds: int) -> None:
        """Keep that the results were looked at with so many seeds."""
        if seeds not in self.looks:
            self.looks = sorted([*self.looks, seeds])
            self._write()

    def _write(self) -> None:
        content = {"study": self.begun, "workers": self.workers, "threads": self.threads, "looks": self.looks}
        write_text(self.file, json.dumps(content, indent=2) + "\n")

    def _read(self) -> tuple[int, int]:
        try:
            there = json.loads(self.file.read_text(encoding="utf-8"))
            self.begun = dict(there["study"])
            workers, threads = int(there["workers"]), int(there["threads"])
            # a study of a version that kept no looks was looked at once if it has results
            seen = [self.begun["seeds"]] if (self.path / "results.json").exists() else []
            self.looks = [int(seeds) for seeds in there.get("looks", seen)]
            self.first_margin = self.begun.get("margin")
        except (ValueError, KeyError, TypeError) as error:
            raise WhatwhereError(f"{self.file} is damaged: remove {self.path} or choose another --out") from error
        asked, options = flat(self.asked), flat(self.begun)
        free = (*_WHERE, *_LATER)
        differing = [key for key in asked | options if asked.get(key) != options.get(key) and key not in free]
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
