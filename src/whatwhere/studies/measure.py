"""What a study measures on its networks after training: costs, evidence, and what they make of some test images."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from ..cost.measure import Cost, default_device, measure_costs
from ..tasks import CannotDraw, Task, in_channels_last
from ..training import Recipe, load_run
from .arms import Arm

Folders = Mapping[str, Sequence[Path]]
"""The folders of the finished runs, by arm."""


def costs(
    arms: Sequence[Arm], folders: Folders, task: Task, recipe: Recipe, tick: Callable[[], None]
) -> dict[str, Cost]:
    """Measure the task's own training step and inference with every arm's network, as its first run left it: what a
    network finds may decide how long it takes. An arm without a finished run is measured with random weights.
    """
    device = _device(recipe)
    batch = task.example(recipe.batch_size, device)
    return measure_costs(
        {a.name: load_run(folders[a.name][0], "last").model if a.name in folders else a.build() for a in arms},
        in_channels_last(batch) if recipe.channels_last else batch,
        recipe.batch_size,
        loss=lambda model, batch: task.loss(model, batch)[0],
        predict=task.predict,
        device=device,
        channels_last=recipe.channels_last,
        amp={"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.amp),
        on_round=tick,
    )


def evidence(
    folders: Folders, task: Task, recipe: Recipe, tick: Callable[[], None]
) -> dict[str, dict[str, list[float]]]:
    """Measure the task's evidence on every run; by arm and key, one value a run, in the units of the columns."""
    if task.evidence is None:
        return {}
    metrics = [*task.evidence.columns, *([task.evidence.chance] if task.evidence.chance else [])]
    found: dict[str, dict[str, list[float]]] = {}
    for arm, paths in folders.items():
        values: dict[str, list[float]] = {metric.key: [] for metric in metrics}
        for path in paths:
            measured = task.evidence.measure(load_run(path, "last").model.to(_device(recipe)).eval())
            for metric in metrics:
                values[metric.key].append(metric.scale * measured.get(metric.key, float("nan")))
            tick()
        found[arm] = values
    return found


def looks(
    count: int, folders: Folders, task: Task, tick: Callable[[], None]
) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Draw what the first run of every arm makes of ``count`` test images, taken evenly from the set.

    Return captions with PNGs, and remarks.
    """
    dataset = task.test_set
    drawn: list[tuple[str, bytes]] = []
    for index in torch.linspace(0, len(dataset) - 1, count + 2)[1:-1].round().long().tolist():
        if not len(dataset.__getitems__([index])["index"]):
            continue  # it cannot be read
        what = task.describe_image(index)
        for arm, paths in folders.items():
            if arm in ("wider", "narrower"):
                continue
            try:
                seen = task.look(load_run(paths[0], "last").model, index, title=f"{arm} · {what}")
            except CannotDraw as why:
                return [], [f"No images: {why}."]
            file = io.BytesIO()
            seen.figure.savefig(file, format="png", dpi=110)
            drawn.append((f"{arm} says {seen.caption}: {what}", file.getvalue()))
            tick()
    return drawn, []


def _device(recipe: Recipe) -> torch.device:
    return default_device("cpu" if recipe.device == "cpu" else None)
