"""Images a second in the training of a detector: on one batch that is ready, and with all that brings images to it."""

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import nn

from whatwhere.cli.show import ERR
from whatwhere.cost import Timing, time_in_turn
from whatwhere.data import DetectionDataConfig
from whatwhere.data.detection import DetectionDataset
from whatwhere.errors import WhatwhereError
from whatwhere.networks import ModelConfig
from whatwhere.tables import markdown_table
from whatwhere.tasks import create, in_channels_last
from whatwhere.tasks.detection.config import DetectConfig
from whatwhere.training import Recipe
from whatwhere.training.batches import Shard, loader
from whatwhere.training.machine import describe_machine
from whatwhere.training.recipe import build_optimizer


@dataclass(frozen=True)
class DetectionLoading:
    """Time a training step of a detector with one batch over and over, with batches from memory, and with images that
    are decoded for each batch, here and in worker processes.

    Try:
        python -m benchmarks.detection_loading
        python -m benchmarks.detection_loading --data path/to/voc --size 256 --model tf_efficientnet_lite0 --channels 64
    """

    data: tuple[str, ...] = ("scenes",)
    """As for whatwhere train detect; scenes are in memory only."""
    size: int | None = None
    """Longest side of the images."""
    model: str = "small-resnet"
    """The backbone."""
    channels: int | None = None
    """Channels of the feature pyramid."""
    batch_size: int = 16
    """Images a step."""
    workers: int = 2
    """Processes that decode in the last row."""
    seconds: float = 60.0
    """How long is measured, all rows together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    asked = tyro.cli(DetectionLoading, prog="python -m benchmarks.detection_loading", args=arguments)
    try:
        print(measure(asked))
    except WhatwhereError as error:
        ERR.print(str(error), markup=False, highlight=False)
        return 2
    return 0


def measure(asked: DetectionLoading) -> str:
    """Return the table."""
    config = DetectConfig(
        DetectionDataConfig(asked.data, size=asked.size), ModelConfig(asked.model), channels=asked.channels
    )
    task = create("detect", config)
    dataset: Any = task.train_set
    size = min(asked.batch_size, len(dataset))
    recipe = Recipe(batch_size=size)
    model = task.build(0, pretrained=False).to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(recipe, model)
    generator = torch.Generator().manual_seed(0)
    ready = in_channels_last(task.prepare(dataset.__getitems__(list(range(size))), torch.device("cpu"), generator))

    def step(batch: Any) -> None:
        loss, _ = task.loss(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def with_loading(batches: Iterator[Any]) -> Callable[[], None]:
        return lambda: step(in_channels_last(task.prepare(next(batches).batch, torch.device("cpu"), generator)))

    calls: dict[str, Callable[[], None]] = {"one batch, ready": lambda: step(ready)}
    calls["from memory, augmented"] = with_loading(endless(dataset, size, 0))
    if Path(dataset.name(0)).exists():
        decoding = replace(config.data, memory_gb=0.0)
        later: Any = create("detect", replace(config, data=decoding)).train_set
        calls["decoded here"] = with_loading(endless(later, size, 0))
        calls[f"decoded by {asked.workers} workers"] = with_loading(endless(later, size, asked.workers))
    timings = time_in_turn(calls, torch.device("cpu"), asked.seconds / len(calls))
    return report(asked, timings, size, task.describe_data())


def endless(dataset: DetectionDataset, size: int, workers: int) -> Iterator[Any]:
    """Yield batches as training does, without an end."""
    indices = itertools.cycle(range(len(dataset)))
    return loader(dataset, Shard([next(indices) for _ in range(size)] for _ in itertools.count()), workers)  # type: ignore[arg-type]


def report(asked: DetectionLoading, timings: dict[str, Timing], size: int, data: str) -> str:
    """Return the table as text."""
    alone = next(iter(timings.values())).median
    rows = [
        [
            name,
            f"{1e3 * size / t.median:.1f} ({1e3 * size / t.high:.1f} to {1e3 * size / t.low:.1f})",
            f"{t.median / alone:.3f}",
        ]
        for name, t in timings.items()
    ]
    machine = ", ".join(f"{key} {value}" for key, value in describe_machine().items())
    titles = ["images", "images/s (quartiles)", "time of a step, × the first"]
    head = f"{data}. {asked.model}, batches of {size}."
    return "\n\n".join([head, markdown_table(titles, rows), f"Measured on: {machine}."])


if __name__ == "__main__":
    sys.exit(main())
