"""What a study compares, and how."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import WhatwhereError, closest
from ..networks import ModelConfig
from ..tasks import entry, read_config
from ..training import Recipe
from .executors import entry as executor_entry
from .statistics import FEWEST

PRESETS: dict[str, tuple[str, ...]] = {
    "cbam-table1": (
        "cbam:paper:spatial=false:pools=avg",
        "cbam:paper:spatial=false:pools=max",
        "cbam:paper:spatial=false:pools=avg+max",
    ),
    "cbam-table2": (
        "cbam:paper:spatial=false",
        "cbam:paper:spatial_pools=conv:kernel_size=3",
        "cbam:paper:spatial_pools=conv:kernel_size=7",
        "cbam:paper:kernel_size=3",
        "cbam:paper:kernel_size=7",
    ),
    "cbam-table3": (
        "se:paper",
        "cbam:paper:order=channel-spatial",
        "cbam:paper:order=spatial-channel",
        "cbam:paper:order=parallel",
    ),
    "ghost": ("se", "cbam"),
}
"""The ablations of the CBAM paper, in its form: 1 the channel squeeze, 2 the spatial squeeze, 3 the order; and the
attentions that stand beside ghost convolutions."""


@dataclass(frozen=True)
class StudyConfig:
    """Is attention worth its cost on your data? Train with and without, over several seeds, and compare honestly.

    Every arm sees the same images in the same order and starts from the same weights where they have the same; what is
    compared is the task's headline metric after the last epoch on the test images (never the best of several looks).

    Try:
        whatwhere study
        whatwhere study --data path/to/images --model resnet18 --pretrained --attention se cbam cbam:paper --seeds 5
        whatwhere study --preset cbam-table3 --seeds 3
        whatwhere study --model resnet-20 --preset ghost
        whatwhere study --until-decided --max-seeds 12 --minutes 60

    Raises:
        WhatwhereError: an unknown task or a configuration that it does not take, a wrong attention, fewer than one
            seed, the same arm twice, an unknown preset, an unknown executor, minutes without until_decided.
    """

    task: str = "classify"
    """What the networks learn: the name of a task."""
    config: Any = None
    """The task's configuration, with the plain network: its dataclass, a dictionary of fields, or None for defaults."""
    attention: tuple[str, ...] = None  # type: ignore[assignment]  # filled in below
    """Attentions to compare with the plain network, by default those of the task: NAME[:paper][:OPTION=VALUE]. NAME
    alone starts at the identity, :paper in the paper's form. "all": every attention that can start at the identity.
    With --ghost also "none", for ghost convolutions alone."""
    preset: Literal["none", "cbam-table1", "cbam-table2", "cbam-table3", "ghost"] = "none"
    """An ablation of the CBAM paper in place of --attention: 1 channel squeeze, 2 spatial squeeze, 3 order. Or ghost:
    SE and CBAM, with and without ghost convolutions of ratio 2."""
    ghost: tuple[str, ...] = ()
    """Ghost convolutions to compare with the plain network, alone and with each attention: RATIO[:START], such as 2,
    2:maps, 2:weights, 2:random."""
    control: bool = True
    """Also train the plain network widened to at least the parameters that the most expensive attention adds, and with
    ghost convolutions the plain network narrowed to the multiply-adds of the first of them."""
    seeds: int = None  # type: ignore[assignment]  # filled in below
    """How many times each arm is trained, by default as the task says; verdicts need at least 3. A finished study that
    is given more makes only the runs that are missing, and corrects its verdicts for the earlier look."""
    until_decided: bool = False
    """Look at the results at a third, two thirds and all of --max-seeds, at corrected levels; a network that is decided
    gets no more seeds. --seeds does not count then."""
    max_seeds: int = 12
    """With --until-decided: the most seeds."""
    minutes: float = 0.0
    """With --until-decided: more seeds only while training has taken, and would take, no longer than this in all; 0: no
    limit. Runs that are made at the same time count as such only with processes of this machine."""
    margin: float | None = None
    """Differences within ±margin, in the unit of the metric, count as the same; 0: nothing does. By default as the task
    says."""
    recipe: Recipe = None  # type: ignore[assignment]  # filled in below
    """How each network is trained; by default as the task says."""
    out: Path = Path("runs/study")
    """Folder for everything that the study writes. A study that was stopped goes on from there."""
    jobs: int = 0
    """Runs at the same time on this machine; 0: one a core (at most 8) on a CPU, one on a GPU. Ray and SLURM decide
    by what a run needs: as many CPUs as --threads and --workers together."""
    on: str = "processes"
    """Where the runs are made: processes of this machine; ray[:HOST:PORT]; slurm[:OPTION=VALUE...], options of sbatch;
    or the name of another package's executor. A study may go on elsewhere than it began."""
    collect: bool = False
    """Train nothing: make the report of the runs that are finished, and say what is missing."""
    images: int = 2
    """Test images shown in the report, for each attention."""
    costs: bool = True
    """Measure time and memory of each network after training."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", read_config(self.task, self.config))
        if self.attention is None:
            object.__setattr__(self, "attention", entry(self.task).cls.attentions)
        if self.seeds is None:
            object.__setattr__(self, "seeds", entry(self.task).cls.seeds)
        if self.recipe is None:
            object.__setattr__(self, "recipe", Recipe(**entry(self.task).cls.recipe))
        executor_entry(self.on)
        if self.preset != "none" and self.preset not in PRESETS:
            known = ", ".join(PRESETS)
            raise WhatwhereError(f"unknown preset {self.preset!r}: one of {known}{closest(self.preset, PRESETS)}")
        for name in ("seeds", "jobs", "images"):
            low = 1 if name == "seeds" else 0
            if getattr(self, name) < low:
                raise WhatwhereError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if self.until_decided and self.max_seeds < FEWEST:
            raise WhatwhereError(f"max_seeds must be at least {FEWEST}, got {self.max_seeds}")
        for name in ("minutes", "margin"):
            value = getattr(self, name) or 0.0
            if not (math.isfinite(value) and value >= 0):
                raise WhatwhereError(f"{name} must be at least 0, got {value}")
        if self.minutes and not self.until_decided:
            raise WhatwhereError("minutes is for a study that runs until it is decided: add --until-decided")
        if not self.specs and not self.ghosts:
            raise WhatwhereError("a study needs at least one attention to compare: --attention se cbam, or --ghost 2")
        for spec in self.specs:
            if spec.partition(":")[0].lower() == "none":
                raise WhatwhereError("the plain network is always part of a study: leave 'none' out of the attentions")
            entry(self.task).cls.describe_attention(spec)
        if len(set(self.specs)) < len(self.specs):
            raise WhatwhereError(f"an attention is named twice: {' '.join(self.specs)}")
        for ghost in self.ghosts:
            if ModelConfig(ghost=ghost).ghost_config is None:
                raise WhatwhereError("the plain network is always part of a study: leave 'none' out of the ghosts")
        if len(set(self.ghosts)) < len(self.ghosts):
            raise WhatwhereError(f"ghost convolutions are named twice: {' '.join(self.ghosts)}")

    @property
    def most(self) -> int:
        """The most seeds that an arm gets."""
        return self.max_seeds if self.until_decided else self.seeds

    @property
    def specs(self) -> tuple[str, ...]:
        """The attentions that are compared, one spec an arm (a comma separates too)."""
        if self.preset != "none":
            return PRESETS[self.preset]
        if self.ghost and self.attention == ("none",):
            return ()
        words = [spec for word in self.attention for spec in word.split(",") if spec]
        every = entry(self.task).cls.all_attentions
        return tuple(spec for word in words for spec in (every() if word == "all" else (word,)))

    @property
    def ghosts(self) -> tuple[str, ...]:
        """The ghost convolutions that are compared."""
        return ("2",) if self.preset == "ghost" and not self.ghost else self.ghost
