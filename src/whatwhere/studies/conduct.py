"""A study from beginning to end: arms, runs, costs, evidence, table, report."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import require
from ..files import write_bytes, write_text
from ..tasks import Task, create
from ..tasks import plain as as_plain
from ..training import Recipe
from ..training.machine import command as own_command
from ..training.machine import describe_machine
from . import measure
from .arms import Arm, make_arms
from .config import StudyConfig
from .executors import Needs, ProcessExecutor, make_executor
from .folder import StudyFolder
from .jobs import Executor, Job, Outcome, read_job, run_jobs
from .machines import describe_kinds, say_missing
from .plots import draw_curves, draw_time
from .report import make_report
from .results import Results, describe_recipe, make_row
from .show import LiveTable

READING = (
    "{title} is that of the last epoch on the test images, mean over seeds with Student's 95 % interval. The "
    "difference to plain is paired: the same seed gives the same order of images and the same first weights. An "
    "interval that contains zero is “no difference found”, which is not the same as “no difference”.",
    "With several networks beside plain, about one comparison in twenty is found different by chance alone.",
    "Times are medians of calls made in turn in one process, with nothing else running; memory is the most that a "
    "training step held at one time.",
)

LOWER = "A lower {title} is better: “better” stands for a difference below zero."

WIDER = (
    "wider is the plain network with more channels, until it has at least the parameters of the most expensive "
    "attention: what the same cost buys elsewhere."
)

NARROWER = (
    "narrower is the plain network with fewer channels, until it has the multiply-adds of the one with ghost "
    "convolutions: what the same saving costs elsewhere."
)


def study(
    config: StudyConfig | None = None,
    *,
    progress: bool = True,
    command: str | None = None,
    executor: Executor | None = None,
) -> Results:
    """Find out whether attention is worth its cost for a task.

    Trains the plain network, each attention, and a plain network of the same cost, each over several seeds; measures
    what each costs; and writes ``results.json``, ``results.csv``, ``results.md``, ``curves.png``, ``time.png`` and
    ``report.html`` into ``config.out``. Called again with the same config, it goes on where it was.

    Args:
        config: what to compare; by default the digit scenes with SE and CBAM.
        progress: whether to show a live table.
        command: what the report says it was made by; by default this process's own command line.
        executor: where the runs are made, in place of ``config.on``. See
            :class:`whatwhere.studies.Executor`.

    Returns:
        The table and everything behind it.

    Raises:
        WhatwhereError: wrong options, images that cannot be used, a folder that holds another study or cannot be
            written, or a cluster that is not there or refuses the runs.

    Example:
        ``results = ww.study(ww.StudyConfig(seeds=3, out="runs/study"))``; ``docs/guide.md`` has one that runs.
    """
    config = config or StudyConfig()
    require(
        train=("accelerate", "scipy", "sklearn", "tensorboard", "timm", "torchmetrics"),
        look=("matplotlib", "pytorch_grad_cam", "PIL"),
    )
    folder = StudyFolder(config)
    executor = executor or make_executor(config.on, _needs(config, folder))
    task = create(config.task, config.config)
    arms, remarks = make_arms(config, task)
    _ = task.train_set, task.test_set  # what a task keeps on the disk is made once, before the runs need it
    folder.claim()
    recipe = replace(config.recipe, threads=folder.threads)
    jobs = [_job(arm, seed, recipe, folder.path) for seed in range(config.seeds) for arm in arms]
    outcomes: list[Outcome] = []
    with LiveTable(task.headline, [arm.name for arm in arms], jobs, recipe.epochs, progress) as board:
        there = [read_job(job) for job in jobs] if config.collect else run_jobs(jobs, executor, board.refresh)
        for outcome in filter(None, there):
            outcomes.append(outcome)
            board.add(outcome)
        finished = _finished(jobs, outcomes)
        costs = board.during(
            "measuring what each network costs", lambda tick: measure.costs(arms, finished, task, recipe, tick)
        )
        evidence = board.during(
            "measuring where the networks look", lambda tick: measure.evidence(finished, task, recipe, tick)
        )
        looks, no_looks = board.during(
            "drawing what the networks see", lambda tick: measure.looks(config.images, finished, task, tick)
        )
    of_arm = {arm.name: [o for o in outcomes if o.arm == arm.name] for arm in arms}
    rows = [
        make_row(
            arm.name,
            arm.note,
            of_arm[arm.name],
            of_arm["plain"],
            costs[arm.name],
            _columns(task, of_arm[arm.name]) | evidence.get(arm.name, {}),
            higher_is_better=task.headline.higher_is_better,
        )
        for arm in arms
    ]
    columns = [*task.columns, *(task.evidence.columns if task.evidence else ())]
    chance = task.evidence.chance if task.evidence else None
    if chance and chance.key in rows[0].evidence:
        remarks.append(chance.sentence.format(chance.with_unit(rows[0].evidence[chance.key].mean)))
    broken = [item for dataset in (task.train_set, task.test_set) for item in getattr(dataset, "broken", ())]
    if broken:
        remarks.append(f"{len(broken)} images could not be read and were left out, the first: {broken[0].path}")
    own = isinstance(executor, ProcessExecutor)
    where = f"{folder.workers} runs at a time" if own else f"runs by {type(executor).__name__}"
    remarks += describe_kinds(outcomes) + (say_missing(jobs, outcomes) if config.collect else [])
    results = Results(
        task.headline,
        [metric for metric in columns if any(metric.key in row.evidence for row in rows)],
        rows,
        remarks + no_looks + [f"{o.arm}, seed {o.seed}: {o.error}" for o in outcomes if o.error],
        command or own_command(),
        describe_machine() | {"training": f"{where}, {folder.threads} threads each"},
        as_plain(config) | {"out": str(folder.path)},
        _describe(config, task, recipe),
        sum(o.seconds for o in outcomes),
    )
    _write(folder.path, results, looks, _reading(task, results))
    return results


def _needs(config: StudyConfig, folder: StudyFolder) -> Needs:
    """Return what the study's executor must know of it."""
    recipe = config.recipe
    return Needs(folder.path, folder.workers, folder.threads, recipe.workers, gpu=recipe.device != "cpu")


def _columns(task: Task, outcomes: Sequence[Outcome]) -> dict[str, list[float]]:
    """Return the task's other columns, by key one value a finished run."""
    return {m.key: [o.columns[m.key] for o in outcomes if m.key in o.columns] for m in task.columns}


def _job(arm: Arm, seed: int, recipe: Recipe, out: Path) -> Job:
    recipe = replace(recipe, seed=recipe.seed + seed)
    return Job(arm.name, recipe.seed, arm.task, arm.config, recipe, out / arm.slug / f"seed-{recipe.seed}")


def _finished(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> dict[str, list[Path]]:
    good = {(o.arm, o.seed) for o in outcomes if not o.error}
    folders: dict[str, list[Path]] = {}
    for job in jobs:
        if (job.arm, job.seed) in good:
            folders.setdefault(job.arm, []).append(job.folder)
    return folders


def _describe(config: StudyConfig, task: Task, recipe: Recipe) -> str:
    network = "" if task.network is None else f"{task.network.name}, "
    return f"{task.describe_data()}. {network}{config.seeds} seeds, {describe_recipe(recipe)}."


def _write(out: Path, results: Results, looks: Sequence[tuple[str, bytes]], reading: Sequence[str]) -> None:
    title = results.headline.heading
    plots = [
        ("Learning curves: mean over seeds, single seeds thin", draw_curves(results)),
        (f"{title} against the measured time of a training step", draw_time(results)),
    ]
    write_text(out / "results.json", results.to_json())
    write_text(out / "results.csv", results.to_csv())
    write_text(out / "results.md", results.to_markdown())
    write_bytes(out / "curves.png", plots[0][1])
    write_bytes(out / "time.png", plots[1][1])
    write_text(out / "report.html", make_report(results, plots, looks, reading))


def _reading(task: Task, results: Results) -> list[str]:
    """Return how to read the table: what there is in it."""
    title = results.headline.title
    lower = [] if results.headline.higher_is_better else [LOWER.format(title=title)]
    arms = {row.arm for row in results.rows}
    wider = [WIDER] * ("wider" in arms) + [NARROWER] * ("narrower" in arms)
    evidence = [task.evidence.reading] if task.evidence and results.columns and task.evidence.reading else []
    return [*(text.format(title=results.headline.heading) for text in READING), *lower, *wider, *evidence]
