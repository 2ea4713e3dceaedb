"""The folder of a study: what was asked for, so that a study that was stopped goes on in the same way."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..errors import WhatwhereError
from ..files import write_text
from ..tasks import plain
from ..training.folder import flat
from .config import StudyConfig

_FREE = (
    "seeds",
    "until_decided",
    "max_seeds",
    "minutes",
    "margin",
    "images",
    "costs",
)  # runs are the same whatever they are


class StudyFolder:
    """The folder of a study, and how many runs it makes at a time with how many CPU threads each.

    Both stay as they were when a study goes on, because another number of threads may change the last bits of the
    weights. It also keeps at how many seeds the results were looked at, so that a study which is given more seeds later
    corrects its verdicts for the looks before.

    Attributes:
        begun: the options that the study was begun with.
        looks: the numbers of seeds at which the results were looked at so far.
        first_margin: the margin that the study was begun with.

    Raises:
        WhatwhereError: the folder holds something else, a study with other options, or one that has more seeds already.
    """

    def __init__(self, config: StudyConfig) -> None:
        self.path = Path(config.out)
        self.file = self.path / "study.json"
        self.asked: dict[str, Any] = json.loads(json.dumps(plain(replace(config, out=Path(), jobs=0)), default=str))
        self.looks: list[int] = []
        self.first_margin: float | None = config.margin
        self.begun = self.asked
        if self.file.exists():
            self.workers, self.threads = self._read()
            if max(self.looks, default=0) > config.most:
                raise WhatwhereError(
                    f"{self.path} holds a study of {max(self.looks)} seeds: it can be given more, not fewer "
                    f"({config.most}); choose another --out for a smaller one"
                )
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise WhatwhereError(f"{self.path} is there already and is not a study: choose another --out")
        else:
            self.workers, self.threads = _share_cores(config)

    def claim(self) -> None:
        """Make the folder this study's own, once everything that can be wrong with the options has been checked."""
        if not self.file.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            self._write()

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
        differing = [key for key in asked | options if asked.get(key) != options.get(key) and key not in _FREE]
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
