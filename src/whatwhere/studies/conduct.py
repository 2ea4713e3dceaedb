"""A study from beginning to end: arms, runs, costs, evidence, table, report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..cost.measure import Cost
from ..errors import require
from ..files import write_bytes, write_text
from ..tables import counted
from ..tasks import Task, create
from ..tasks import plain as as_plain
from ..training import Recipe
from ..training.machine import command as own_command
from ..training.machine import describe_machine
from . import measure
from .arms import Arm, make_arms
from .config import StudyConfig
from .crossed import crossed_interval
from .executors import Needs, make_executor
from .folder import StudyFolder
from .jobs import Executor, Outcome
from .machines import describe_kinds, say_missing
from .methods import describe_methods, listed, reading
from .plan import Plan, plan_looks
from .plots import draw_all
from .report import make_report
from .results import Results, Row, describe_recipe, make_row
from .runs import Runs
from .sequence import Looks, pairs
from .show import LiveTable
from .verdicts import Rules


def study(
    config: StudyConfig | None = None,
    *,
    progress: bool = True,
    command: str | None = None,
    executor: Executor | None = None,
) -> Results:
    """Find out whether attention is worth its cost for a task.

    Trains the plain network, each attention, and a plain network of the same cost, each over several seeds; measures
    what each costs; and writes ``results.json``, ``results.csv``, ``results.md``, ``results.tex``, plots and
    ``report.html`` into ``config.out``. Called again with the same config, it goes on where it was; with more seeds, it
    makes the runs that are missing.

    Args:
        config: what to compare; by default the digit scenes with SE and CBAM.
        progress: whether to show a live table.
        command: what the report says it was made by; by default this process's own command line.
        executor: where the runs are made, in place of ``config.on``. See
            :class:`whatwhere.studies.Executor`.

    Returns:
        The table and everything behind it.

    Raises:
        WhatwhereError: wrong options, images that cannot be used, a folder that cannot be written or holds another
            study or one of more seeds, or a cluster that is not there or refuses the runs.

    Example:
        ``results = ww.study(ww.StudyConfig(seeds=3, out="runs/study"))``; ``docs/guide.md`` has one that runs.
    """
    config = config or StudyConfig()
    require(
        train=("accelerate", "scipy", "sklearn", "tensorboard", "timm", "torchmetrics"),
        look=("matplotlib", "pytorch_grad_cam", "PIL"),
    )
    folder = StudyFolder(config)
    here = executor is None and config.on == "processes"
    at_once = folder.workers if here else 1  # elsewhere nobody knows
    executor = None if config.collect else executor or make_executor(config.on, _needs(config, folder))
    task = create(config.task, config.config)
    arms, remarks = make_arms(config, task)
    _ = task.train_set, task.test_set  # what a task keeps on the disk is made once, before the runs need it
    folder.claim()
    recipe = replace(config.recipe, threads=folder.threads)
    looks, unplanned = _looks(config, folder, task, arms, at_once)
    with LiveTable(task.headline, [arm.name for arm in arms], recipe.epochs, progress) as board:
        runs = Runs(arms, recipe, folder, board, executor, at_once)
        ended = runs.make(config, looks, task)
        finished = {arm: list(by_seed.values()) for arm, by_seed in runs.finished().items()}
        if config.costs:
            costs = board.during(
                "measuring what each network costs", lambda tick: measure.costs(arms, finished, task, recipe, tick)
            )
        else:
            costs = measure.counts(arms, task)
        evidence = board.during(
            "measuring where the networks look", lambda tick: measure.evidence(finished, task, recipe, tick)
        )
        shown, no_looks = board.during(
            "drawing what the networks see", lambda tick: measure.looks(config.images, finished, task, tick)
        )
    rows = [_row(arm, runs, looks, costs[arm.name], evidence, task) for arm in arms]
    columns = [*task.columns, *(task.evidence.columns if task.evidence else ())]
    chance = task.evidence.chance if task.evidence else None
    if chance and chance.key in rows[0].evidence:
        remarks.append(chance.sentence.format(chance.with_unit(rows[0].evidence[chance.key].mean)))
    broken = [item for dataset in (task.train_set, task.test_set) for item in getattr(dataset, "broken", ())]
    if broken:
        remarks.append(f"{counted(len(broken), 'image')} could not be read, left out, the first: {broken[0].path}")
    remarks += _after_the_fact(config, folder, looks.rules, unplanned)
    remarks += describe_kinds(runs.outcomes) + say_missing(runs.jobs, runs.outcomes)
    where = f"{counted(at_once, 'run')} at a time" if here else f"runs by {type(executor).__name__}"
    where = "finished runs, collected" if executor is None else where
    results = Results(
        task.headline,
        [metric for metric in columns if any(metric.key in row.evidence for row in rows)],
        rows,
        remarks + no_looks + [f"{o.arm}, seed {o.seed}: {o.error}" for o in runs.outcomes if o.error],
        command or own_command(),
        describe_machine() | {"training": f"{where}, {folder.threads} threads each"},
        as_plain(config) | {"out": str(folder.path)},
        _describe(config, task, recipe),
        sum(o.seconds for o in runs.outcomes),
        looks.rules,
        looks.taken,
        ended,
    )
    results = replace(results, methods=describe_methods(results, config.most, unplanned, fixed=folder.fixed(config)))
    _write(folder.path, results, shown, reading(task, results))
    return results


def _needs(config: StudyConfig, folder: StudyFolder) -> Needs:
    """Return what the study's executor must know of it."""
    recipe = config.recipe
    return Needs(folder.path, folder.workers, folder.threads, recipe.workers, gpu=recipe.device != "cpu")


def _looks(
    config: StudyConfig, folder: StudyFolder, task: Task, arms: Sequence[Arm], at_once: int
) -> tuple[Looks, list[int]]:
    """Return the looks that the study takes at its results, and the earlier ones that no plan had foreseen."""
    before = [seeds for seeds in folder.looks if seeds < config.most]
    counts = plan_looks(config.most, before) if config.until_decided else (*before, config.most)
    margin = task.headline.margin if config.margin is None else config.margin
    rules = Rules(task.headline, Plan(counts), margin)
    looks = Looks([arm.name for arm in arms[1:]], rules, config.until_decided, at_once)
    return looks, [] if config.until_decided and folder.fixed(config) else before


def _after_the_fact(config: StudyConfig, folder: StudyFolder, rules: Rules, unplanned: Sequence[int]) -> list[str]:
    """Return remarks on what was not fixed before results could be seen."""
    remarks = []
    plan = rules.plan
    if unplanned:
        remarks.append(
            f"This study was looked at before, with {listed(unplanned)} seeds, and then given more. Its verdicts are "
            f"now at level {plan.level:.4f} for a single comparison, which keeps the chance of a false one over all "
            f"looks at {100 * plan.alpha:g} %; what an earlier report says counts only as far as this one repeats it."
        )
    elif not folder.fixed(config):
        remarks.append("The study was begun with another number of seeds, which was changed before its first verdict.")
    if folder.first_margin != config.margin:
        remarks.append("The margin was changed after the study was begun, when results could be seen.")
    return remarks


def _row(
    arm: Arm,
    runs: Runs,
    looks: Looks,
    cost: Cost,
    evidence: Mapping[str, Mapping[str, Sequence[float]]],
    task: Task,
) -> Row:
    outcomes = [o for o in runs.outcomes if o.arm == arm.name]
    level, step = 1 - looks.rules.plan.level, looks.rules.step
    images = None
    if arm.name in looks.values:
        seeds = pairs(runs.outcomes, arm.name)[0]
        table = runs.scores(task).differences(arm.name, "plain", seeds)
        images = None if table is None else crossed_interval(table, level, step)
    return make_row(
        arm.name,
        arm.note,
        outcomes,
        cost,
        _columns(task, outcomes) | dict(evidence.get(arm.name, {})),
        differences=list(looks.values.get(arm.name, ())),
        verdict=looks.verdicts.get(arm.name),
        images=images,
        level=level,
        step=step,
    )


def _columns(task: Task, outcomes: Sequence[Outcome]) -> dict[str, list[float]]:
    """Return the task's other columns, by key one value a finished run."""
    return {m.key: [o.columns[m.key] for o in outcomes if m.key in o.columns] for m in task.columns}


def _describe(config: StudyConfig, task: Task, recipe: Recipe) -> str:
    network = "" if task.network is None else f"{task.network.name}, "
    seeds = f"at most {config.max_seeds} seeds" if config.until_decided else counted(config.seeds, "seed")
    return f"{task.describe_data()}. {network}{seeds}, {describe_recipe(recipe)}."


def _write(out: Path, results: Results, shown: Sequence[measure.Shown], reading: Sequence[str]) -> None:
    plots = draw_all(results)
    write_text(out / "results.json", results.to_json())
    write_text(out / "results.csv", results.to_csv())
    write_text(out / "results.md", results.to_markdown())
    write_text(out / "results.tex", results.to_latex())
    for plot in plots:
        write_bytes(out / f"{plot.name}.png", plot.png)
    write_text(out / "report.html", make_report(results, plots, shown, reading))
