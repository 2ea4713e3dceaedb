"""A study of a trained network with ghost convolutions, fine-tuned: fitted, at random, and beside it narrowed."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from whatwhere.cli.show import ERR
from whatwhere.data import DataConfig
from whatwhere.errors import WhatwhereError
from whatwhere.networks import ModelConfig
from whatwhere.studies import StudyConfig, study
from whatwhere.training import Recipe

from .narrowing import NarrowingConfig, NarrowingExecutor


@dataclass(frozen=True)
class GhostFinetuning:
    """Fine-tune a trained network plain, with ghost convolutions fitted to its maps, to its weights and not at all, and
    narrowed by torch-pruning to the multiply-adds of those: a study like whatwhere study, with its table and report.

    Try:
        python -m benchmarks.ghost_finetuning --data cifar10 --weights efficientnet-lite0-57934424.pth
    """

    data: str
    """Images, as for whatwhere study."""
    weights: Path
    """The network's weights, as whatwhere.load reads them."""
    model: str = "tf_efficientnet_lite0"
    """A network of timm's."""
    size: int = 96
    """Side of the images."""
    train_limit: int = 3000
    """Training images at most."""
    test_limit: int = 2000
    """Test images at most."""
    ghost: tuple[str, ...] = ("2:maps", "2:weights", "2:random")
    """Which ghost convolutions."""
    seeds: int = 4
    """Runs of each network."""
    epochs: int = 6
    """Epochs of each run."""
    lr: float = 1e-3
    """Highest learning rate."""
    jobs: int = 2
    """Runs at a time, each with one thread for a core of its own."""
    out: Path = Path("runs/benchmarks/ghost-finetuning")
    """Folder of the study."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    asked = tyro.cli(GhostFinetuning, prog="python -m benchmarks.ghost_finetuning", args=arguments)
    data = DataConfig(asked.data, size=asked.size, train_limit=asked.train_limit, test_limit=asked.test_limit)
    try:
        results = study(
            StudyConfig(
                "classify-narrowed",
                NarrowingConfig(data, ModelConfig(asked.model, weights=str(asked.weights))),
                attention=("none",),
                ghost=asked.ghost,
                seeds=asked.seeds,
                recipe=Recipe(epochs=asked.epochs, lr=asked.lr),
                out=asked.out,
                jobs=asked.jobs,
                images=0,
            ),
            executor=NarrowingExecutor(asked.jobs, 1),
        )
    except WhatwhereError as error:
        ERR.print(f"benchmarks.ghost_finetuning: {error}", markup=False)
        return 2
    print(results.to_markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
