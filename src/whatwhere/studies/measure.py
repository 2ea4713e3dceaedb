"""What a study measures on its networks after training: costs, evidence, and what they make of some test images."""

import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..cost import count_parameters
from ..cost.measure import Cost, default_device, measure_costs, multiply_adds_of
from ..cost.stopwatch import Timing
from ..tasks import CannotDraw, Task, in_channels_last
from ..training import Recipe, load_run
from .arms import Arm

Folders = Mapping[str, Sequence[Path]]
"""The folders of the finished runs, by arm."""
Tick = Callable[[str], None]
"""Says how far something is."""
SECONDS = 3.0
"""How long each network is timed."""


@dataclass(frozen=True)
class Shown:
    """What the networks make of one test image: by arm, a sentence and a PNG."""

    image: str
    drawn: dict[str, tuple[str, bytes]]


def counts(arms: Sequence[Arm], task: Task) -> dict[str, Cost]:
    """Count parameters and multiply-adds of every arm's network; times are nan, memory is 0."""
    batch = task.example(1, torch.device("cpu"))
    none = Timing(math.nan, math.nan, math.nan, 0)
    found = {}
    for arm in arms:
        model = arm.build()
        numbers = count_parameters(model), multiply_adds_of(model, batch, task.predict)
        found[arm.name] = Cost(*numbers, none, none, 0, 1, "cpu")
    return found


def costs(arms: Sequence[Arm], folders: Folders, task: Task, recipe: Recipe, tick: Tick) -> dict[str, Cost]:
    """Measure the task's own training step and inference with every arm's network, as its first run left it: what a
    network finds may decide how long it takes. An arm without a finished run is measured with random weights.
    """
    device = _device(recipe)
    batch = task.example(recipe.batch_size, device)
    start, expected = time.monotonic(), SECONDS * len(arms)

    def on_round() -> None:
        tick(f"{time.monotonic() - start:.0f} s of about {expected:.0f} s")

    return measure_costs(
        {a.name: load_run(folders[a.name][0], "last").model if a.name in folders else a.build() for a in arms},
        in_channels_last(batch) if recipe.channels_last else batch,
        recipe.batch_size,
        loss=lambda model, batch: task.loss(model, batch)[0],
        predict=task.predict,
        device=device,
        channels_last=recipe.channels_last,
        amp={"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.amp),
        seconds=SECONDS,
        on_round=on_round,
    )


def evidence(folders: Folders, task: Task, recipe: Recipe, tick: Tick) -> dict[str, dict[str, list[float]]]:
    """Measure the task's evidence on every run; by arm and key, one value a run, in the units of the columns."""
    if task.evidence is None:
        return {}
    metrics = [*task.evidence.columns, *([task.evidence.chance] if task.evidence.chance else [])]
    found: dict[str, dict[str, list[float]]] = {}
    runs, done = sum(map(len, folders.values())), 0
    for arm, paths in folders.items():
        values: dict[str, list[float]] = {metric.key: [] for metric in metrics}
        for path in paths:
            measured = task.evidence.measure(load_run(path, "last").model.to(_device(recipe)).eval())
            for metric in metrics:
                values[metric.key].append(metric.scale * measured.get(metric.key, float("nan")))
            done += 1
            tick(f"{done} of {runs} runs")
        found[arm] = values
    return found


def looks(count: int, folders: Folders, task: Task, tick: Tick) -> tuple[list[Shown], list[str]]:
    """Draw what the first run of every arm makes of ``count`` test images, taken evenly from the set.

    Return the images, and remarks.
    """
    dataset = task.test_set
    shown: list[Shown] = []
    for index in torch.linspace(0, len(dataset) - 1, count + 2)[1:-1].round().long().tolist():
        if not len(dataset.__getitems__([index])["index"]):
            continue  # it cannot be read
        what = task.describe_image(index)
        drawn: dict[str, tuple[str, bytes]] = {}
        for arm, paths in folders.items():
            if arm in ("wider", "narrower"):
                continue
            try:
                seen = task.look(load_run(paths[0], "last").model, index, title=f"{arm} · {what}")
            except CannotDraw as why:
                return [], [f"No images: {why}."]
            file = io.BytesIO()
            seen.figure.savefig(file, format="png", dpi=110)
            drawn[arm] = f"{arm} says {seen.caption}", file.getvalue()
        shown.append(Shown(what, drawn))
        tick(f"{len(shown)} of {count} images")
    return shown, []


def _device(recipe: Recipe) -> torch.device:
    return default_device("cpu" if recipe.device == "cpu" else None)
