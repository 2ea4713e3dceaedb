"""What a training run comes to, and the network that it left."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from ..errors import WhatwhereError
from ..imports import named
from ..tasks import Task, create, restore
from .checkpoint import load
from .folder import RunFolder
from .recipe import Recipe


@dataclass(frozen=True)
class Result:
    """What a run measured on its test set.

    ``best`` is the best of several looks at the test set and so a little too good; ``last`` is not, compare runs by it.
    """

    folder: Path
    """Where the run's files are."""
    metric: str
    """The name of the headline metric, for example ``top1``."""
    headline: list[float]
    """The headline metric after each epoch."""
    best: float
    """The best of them."""
    best_epoch: int
    """The first epoch (from 1) that reached it."""
    last: float
    """The headline metric after the last epoch."""
    seconds: float
    """Time spent on training and measuring, without the time between a kill and the resume."""
    rows: list[dict[str, Any]]
    """A row an epoch, as in ``metrics.jsonl``."""
    broken: list[str]
    """The images that could not be read, with the reason, as far as this process met them."""


def result_of(folder: RunFolder, metric: str, info: dict[str, Any], broken: list[str]) -> Result:
    """Put a finished run's result together from its rows and its last checkpoint's info."""
    rows = folder.rows("epoch")
    headline = [_number(row.get(f"test_{metric}")) for row in rows]
    if len(headline) != info["epoch"]:
        raise WhatwhereError(
            f"{folder.metrics} has rows for {len(headline)} epochs, but {folder.last} is after epoch {info['epoch']}; "
            "the file was changed or lost, and the run has to be made again in another folder"
        )
    best = _number(info["best"])
    return Result(folder.path, metric, headline, best, info["best_epoch"], headline[-1], info["seconds"], rows, broken)


def load_config(folder: str | os.PathLike[str]) -> tuple[Task, Recipe]:
    """Return the task and the recipe of a run folder: what another run with the same outcome needs.

    Example:
        >>> import tempfile
        >>> from whatwhere.tasks import create
        >>> from whatwhere.training import Recipe, train
        >>> task = create("classify", {"data": {"data": "scenes:size=20:train=20:test=20"}})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = train(task, Recipe(epochs=1), folder, progress=False)
        ...     same, recipe = load_config(folder)
        >>> recipe.epochs, same.config == task.config
        (1, True)

    Raises:
        WhatwhereError: the folder holds no run, or its ``config.json`` is from another version and does not fit.
    """
    config = RunFolder(folder).read_config()
    return create(config["task"], config["config"]), restore(Recipe, config["recipe"])


@dataclass(frozen=True)
class Run:
    """A finished or unfinished run: its task, its network (in eval mode, on the CPU) and what was asked for."""

    task: Task
    model: nn.Module
    config: dict[str, Any]
    """``config.json``: task, config, recipe, versions, command."""
    folder: Path
    epoch: int
    """The epoch (from 1) after, or during, which the weights were kept."""
    step: int
    """The steps that had been done."""
    value: float
    """The headline metric of these weights; nan where they were kept in the middle of an epoch."""


def load_run(folder: str | os.PathLike[str], checkpoint: Literal["best", "last"] = "best") -> Run:
    """Rebuild the task and the network of a run, without opening its data or fetching pretrained weights.

    ``"best"`` is the epoch with the best headline metric, ``"last"`` the latest state. Where the recipe has a moving
    average of the weights, both are that average.

    Example:
        >>> import tempfile
        >>> from whatwhere.tasks import create
        >>> from whatwhere.training import Recipe, train
        >>> task = create("classify", {"data": {"data": "scenes:size=20:train=20:test=20"}})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = train(task, Recipe(epochs=1), folder, progress=False)
        ...     run = load_run(folder)
        >>> run.epoch, run.value == result.best
        (1, True)

    Raises:
        WhatwhereError: the folder holds no run, or not this checkpoint; or the checkpoint is damaged.
    """
    if checkpoint not in ("best", "last"):
        raise WhatwhereError(f"checkpoint={checkpoint!r}: must be 'best' or 'last'")
    run_folder = RunFolder(folder)
    config = run_folder.read_config()
    path = run_folder.best if checkpoint == "best" else run_folder.last
    if not path.exists():
        raise WhatwhereError(
            f"{run_folder.path} has no {path.name} yet: best is written after the first epoch, last also after every "
            "save_every steps; train on with resume=True"
        )
    tensors, info = load(path)
    try:
        task = create(config["task"], config["config"])
        model = task.build(int(config["recipe"]["seed"]), pretrained=False)
    except WhatwhereError as error:
        if missing := [name for name in config.get("imports", ()) if name not in named()]:
            words = " ".join(f"--import {name}" for name in missing)
            raise WhatwhereError(f"{error}\n  → the run was made with {words}: say so here too") from error
        raise
    if checkpoint == "last":
        prefix = "ema.module." if "ema.n_averaged" in tensors else "model."
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    model.load_state_dict(tensors)
    return Run(task, model.eval(), config, run_folder.path, info["epoch"], info["step"], _number(info["value"]))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
