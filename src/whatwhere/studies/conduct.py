"""A study from beginning to end: arms, runs, costs, evidence, table, report."""

import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..checkpoints import build
from ..cost.measure import Cost, measure_costs
from ..data import ImageDataset, Splits
from ..errors import WhatwhereError, require
from ..files import write_bytes, write_text
from ..tasks import plain as as_plain
from ..tasks.classify import Classify, ClassifyConfig
from ..training import Recipe, load_run
from ..views import look
from .arms import Arm, make_arms
from .config import StudyConfig
from .evidence import measure_all
from .machine import describe_machine
from .plots import draw_curves, draw_time
from .report import make_report
from .results import Results, describe_recipe, make_row
from .runner import Job, Outcome, run_jobs
from .show import LiveTable

READING = (
    "Accuracy is that of the last epoch on the test images, mean over seeds with Student's 95 % interval. The difference to plain is "
    "paired: the same seed gives the same order of images and the same first weights. An interval that contains zero is “no difference "
    "found”, which is not the same as “no difference”.",
    "With several networks beside plain, about one comparison in twenty is found different by chance alone.",
    "Times are medians of calls made in turn in one process, with nothing else running; memory is the most that a training step held at one time.",
)

WIDER = (
    "wider is the plain network with more channels, until it has at least the parameters of the most expensive attention: what the same "
    "cost buys elsewhere."
)

ON_OBJECT = (
    "On object: the share of Grad-CAM for the true class, and of the spatial gates, that falls inside the object's box."
)


def study(config: StudyConfig | None = None, *, progress: bool = True, command: str | None = None) -> Results:
    """Find out whether attention is worth its cost on some images.

    Trains the plain network, each attention, and a plain network of the same cost, each over several seeds; measures what each costs; and
    writes ``results.json``, ``results.csv``, ``results.md``, ``curves.png``, ``time.png`` and ``report.html`` into ``config.out``.
    Called again with the same config, it goes on where it was.

    Args:
        config: what to compare; by default the digit scenes with SE and CBAM.
        progress: whether to show a live table.
        command: what the report says it was made by; by default this process's own command line.

    Returns:
        The table and everything behind it.

    Raises:
        WhatwhereError: wrong options, images that cannot be used, or a folder that holds another study.

    Example:
        >>> import whatwhere as ww
        >>> results = ww.study(ww.StudyConfig(seeds=3, out="runs/study"))  # doctest: +SKIP
    """
    config = config or StudyConfig()
    require(
        train=("accelerate", "scipy", "sklearn", "tensorboard", "timm", "torchmetrics"),
        look=("matplotlib", "pytorch_grad_cam", "PIL"),
    )
    out = Path(config.out)
    workers, threads = _check_folder(out, config)
    first = Classify(ClassifyConfig(config.data, config.network, config.label_smoothing, config.augment))
    splits, size = Splits(first.train_set, first.test_set), first.size
    arms, remarks = make_arms(config, len(first.classes), size)
    _claim_folder(out, config, workers, threads)
    recipe = replace(config.recipe, threads=threads)
    jobs = [_job(first.config, arm, seed, recipe, out) for seed in range(config.seeds) for arm in arms]
    outcomes: list[Outcome] = []
    with LiveTable([arm.name for arm in arms], jobs, recipe.epochs, progress) as board:
        for outcome in run_jobs(jobs, workers, threads, board.refresh):
            outcomes.append(outcome)
            board.add(outcome)
        finished = _finished(jobs, outcomes)
        costs = board.during("measuring what each network costs", lambda tick: _costs(arms, size, recipe, tick))
        focus = board.during("measuring where the networks look", lambda tick: measure_all(finished, splits.test, tick))
        looks = board.during(
            "drawing what the networks see", lambda tick: _looks(config.images, finished, splits.test, tick)
        )
    of_arm = {arm.name: [o for o in outcomes if o.arm == arm.name] for arm in arms}
    rows = [
        make_row(arm.name, arm.note, of_arm[arm.name], of_arm["plain"], costs[arm.name], focus.get(arm.name, []))
        for arm in arms
    ]
    if rows[0].area is not None:
        remarks.append(
            f"The objects fill {rows[0].area:.1f} % of the image: the share on the object of a map that knows nothing."
        )
    broken = splits.train.broken + splits.test.broken
    if broken:
        remarks.append(f"{len(broken)} images could not be read and were left out, the first: {broken[0].path}")
    results = Results(
        rows,
        remarks + [f"{o.arm}, seed {o.seed}: {o.error}" for o in outcomes if o.error],
        command or _command(),
        describe_machine() | {"training": f"{workers} runs at a time, {threads} threads each"},
        as_plain(config) | {"out": str(out)},
        _describe(config, splits, recipe),
        sum(o.seconds for o in outcomes),
    )
    _write(out, results, looks)
    return results


def _asked(config: StudyConfig) -> dict[str, Any]:
    asked: dict[str, Any] = json.loads(json.dumps(as_plain(replace(config, out=Path(), jobs=0)), default=str))
    return asked


def _check_folder(out: Path, config: StudyConfig) -> tuple[int, int]:
    """Raise unless the folder is free or this study's own; return workers and threads, which stay the same when it goes on."""
    asked = _asked(config)
    file = out / "study.json"
    if file.exists():
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
            config_there, workers, threads = there["config"], int(there["workers"]), int(there["threads"])
        except (ValueError, KeyError, TypeError) as error:
            raise WhatwhereError(f"{file} is damaged: remove {out} or choose another --out") from error
        differing = [key for key in asked if asked[key] != config_there.get(key)]
        if differing:
            raise WhatwhereError(
                f"{out} holds a study with other options ({', '.join(differing)}): choose another --out, or remove it"
            )
        return workers, threads
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WhatwhereError(f"{out} is there already and is not a study: choose another --out")
    return _workers(config)


def _claim_folder(out: Path, config: StudyConfig, workers: int, threads: int) -> None:
    """Make the folder this study's own, once everything that can be wrong with the options has been looked at."""
    file = out / "study.json"
    if not file.exists():
        out.mkdir(parents=True, exist_ok=True)
        write_text(
            file, json.dumps({"config": _asked(config), "workers": workers, "threads": threads}, indent=2) + "\n"
        )


def _workers(config: StudyConfig) -> tuple[int, int]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    on_gpu = torch.cuda.is_available() and config.recipe.device != "cpu"
    workers = config.jobs or (1 if on_gpu else min(cores, 8))
    return workers, config.recipe.threads or max(1, cores // workers)


def _job(task: dict[str, Any], arm: Arm, seed: int, recipe: Recipe, out: Path) -> Job:
    recipe = replace(recipe, seed=recipe.seed + seed)
    return Job(
        arm.name, recipe.seed, task | {"model": as_plain(arm.model)}, recipe, out / arm.slug / f"seed-{recipe.seed}"
    )


def _finished(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> dict[str, list[Path]]:
    good = {(o.arm, o.seed) for o in outcomes if not o.error}
    folders: dict[str, list[Path]] = {}
    for job in jobs:
        if (job.arm, job.seed) in good:
            folders.setdefault(job.arm, []).append(job.folder)
    return folders


def _costs(arms: Sequence[Arm], size: int, recipe: Recipe, tick: Callable[[], None]) -> dict[str, Cost]:
    models = {arm.name: build(arm.model.untrained(), size) for arm in arms}
    return measure_costs(
        models,
        (3, size, size),
        batch_size=recipe.batch_size,
        device="cpu" if recipe.device == "cpu" else None,
        channels_last=recipe.channels_last,
        amp={"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.amp),
        on_round=tick,
    )


def _looks(
    count: int, folders: Mapping[str, Sequence[Path]], dataset: ImageDataset, tick: Callable[[], None]
) -> list[tuple[str, bytes]]:
    """Draw the first run of every arm on images taken evenly from the test set."""
    chosen = torch.linspace(0, len(dataset) - 1, count + 2)[1:-1].round().long().tolist()
    looks = []
    for index in chosen:
        images = dataset.__getitems__([index])["images"]
        what = f"{Path(dataset.name(index)).name}, {dataset.classes[int(dataset.labels[index])]}"
        for arm, paths in folders.items():
            if not len(images) or arm == "wider":
                continue
            run = load_run(paths[0], "last")
            seen = look(run.model, images[0], title=f"{arm} · {what}", **run.task.viewing)
            file = io.BytesIO()
            seen.figure.savefig(file, format="png", dpi=110)
            looks.append((f"{arm} says {seen.prediction} ({seen.confidence:.0%}): {what}", file.getvalue()))
            tick()
    return looks


def _describe(config: StudyConfig, splits: Splits, recipe: Recipe) -> str:
    train, test = splits
    return (
        f"{config.data.data}: {len(train):,} images to learn from, {len(test):,} to test on, {train.size}×{train.size} pixels, "
        f"{len(train.classes)} classes. {config.model}, {config.seeds} seeds, {describe_recipe(recipe)}."
    )


def _write(out: Path, results: Results, looks: Sequence[tuple[str, bytes]]) -> None:
    plots = [
        ("Learning curves: mean over seeds, single seeds thin", draw_curves(results.rows)),
        ("Accuracy against the measured time of a training step", draw_time(results.rows)),
    ]
    write_text(out / "results.json", results.to_json())
    write_text(out / "results.csv", results.to_csv())
    write_text(out / "results.md", results.to_markdown())
    write_bytes(out / "curves.png", plots[0][1])
    write_bytes(out / "time.png", plots[1][1])
    write_text(
        out / "report.html",
        make_report(results, plots, looks, _reading(results)),
    )


def _reading(results: Results) -> list[str]:
    """Return how to read the table: what there is in it."""
    wider = [WIDER] if any(row.arm == "wider" for row in results.rows) else []
    return [*READING, *wider, *([ON_OBJECT] if results.rows[0].area is not None else [])]


def _command() -> str:
    program = Path(sys.argv[0]).name
    start = ["python", "-m", "whatwhere"] if program == "__main__.py" else [program]
    return shlex.join([*start, *sys.argv[1:]])
