"""What ghost convolutions leave of a trained network's accuracy before anything is trained: fitted, and at random."""

import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from torch import nn

import whatwhere as ww
from whatwhere.checkpoints import build
from whatwhere.cli.show import ERR, make_table
from whatwhere.cost import count_multiply_adds
from whatwhere.data import Preprocessing
from whatwhere.deploy.quality import compare, torch_run
from whatwhere.errors import WhatwhereError
from whatwhere.files import write_text
from whatwhere.graph import Batches
from whatwhere.graph.statistics import renew_statistics
from whatwhere.networks import ModelConfig
from whatwhere.tables import markdown_table

from .conditions import describe_conditions, in_words
from .narrowing import narrowed
from .start import Samples, Start

TITLES = (
    "ratio",
    "convolutions",
    "replaced",
    "multiply-adds",
    "fitted to maps: top-1 %",
    "to weights: top-1 %",
    "random: top-1 %",
    "narrowed: top-1 %",
)


@dataclass(frozen=True)
class Ghost(Start):
    """Put ghost convolutions into a trained network and run it over images, not trained any further.

    Three starts at the same convolutions: fitted to the maps of some of the images, fitted to the weights alone, and
    random as in the official code. Beside them the network with channels taken out (by torch-pruning, smallest weights
    first) until it has the same multiply-adds. The images of the fit are not among those that are counted; what is not
    fitted to them takes the statistics of its batch normalisations from them. Nothing is timed, so the machine may be
    busy.

    Try:
        python -m benchmarks.ghost --images imagenet-samples --weights efficientnet-lite0-57934424.pth
    """

    ratios: tuple[int, ...] = (2, 3, 4)
    """Which ratios."""
    at: tuple[str, ...] = ("*", "*conv_pw", "keep=0.3", "keep=0.15")
    """Which convolutions: globs over their names, or keep=SHARE, see whatwhere.ghostify."""
    fit: int = 200
    """Images to fit to, evenly over the classes' order; the others are for the accuracy."""
    seeds: int = 3
    """How often the random start is drawn."""
    out: Path = Path("runs/benchmarks/ghost")
    """Where the results go: OUT.json and OUT.md."""


def measure(setting: Ghost) -> None:
    """Run everything, print and write."""
    config = ModelConfig(setting.model, classes=setting.classes, weights=str(setting.weights))
    model = build(config).eval()
    samples = list(Samples(setting, Preprocessing.of(model)))
    images, labels = torch.cat([i for i, _ in samples]), torch.cat([n for _, n in samples])
    step = max(1, len(images) // setting.fit)
    chosen = torch.zeros(len(images), dtype=torch.bool)
    chosen[::step] = True
    fit, test = images[chosen], list(zip(images[~chosen].split(50), labels[~chosen].split(50), strict=True))
    size = int(images.shape[-1])

    def top1(network: nn.Module) -> float:
        with torch.inference_mode():
            return 100 * (compare({"": torch_run(network.eval())}, Batches(test))[""].top1 or 0.0)

    whole = count_multiply_adds(model, (3, size, size))
    rows = [["–", "none", "0", f"{whole / 1e6:.0f} M", f"{top1(model):.1f}", "", "", ""]]
    records: list[dict[str, Any]] = []
    for ratio in setting.ratios:
        for at in setting.at:
            record = compare_starts(model, ratio, at, setting.seeds, fit, top1, size)
            records.append(record)
            draws = record["random"]
            rows.append(
                [
                    str(ratio),
                    at,
                    str(record["replaced"]),
                    f"{record['multiply_adds'] / 1e6:.0f} M",
                    f"{record['maps']:.1f}",
                    f"{record['weights']:.1f}",
                    f"{sum(draws) / len(draws):.1f} ({min(draws):.1f} to {max(draws):.1f})",
                    f"{record['narrowed']:.1f}",
                ]
            )
            ERR.print(*rows[-1], sep="  ", markup=False)
    title = (
        f"{setting.model}: {len(fit)} images to fit to, top-1 on {len(images) - len(fit)} others; nothing is trained"
    )
    conditions = describe_conditions("default", "cpu")
    notes = [f"Random starts were drawn {setting.seeds} times: mean, and lowest to highest.", in_words(conditions)]
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    console.print(title, style="bold", highlight=False)
    console.print(make_table(TITLES, rows, left=(1,)))
    for note in notes:
        console.print(note, markup=False, highlight=False)
    setting.out.parent.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join([f"### {title}", markdown_table(TITLES, rows), *notes]) + "\n"
    write_text(setting.out.with_suffix(".md"), text)
    values = json.dumps({"conditions": conditions, "rows": records}, indent=1) + "\n"
    write_text(setting.out.with_suffix(".json"), values)


def compare_starts(
    model: nn.Module, ratio: int, at: str, seeds: int, fit: torch.Tensor, top1: Any, size: int
) -> dict[str, Any]:
    """Return the accuracies of all starts at the same convolutions, and of the narrowed network."""
    keep = float(at.removeprefix("keep=")) if at.startswith("keep=") else None
    fitted = copy.deepcopy(model)
    report = ww.ghostify(fitted, ratio, "*" if keep is not None else at, data=fit, keep=keep, seconds=0)
    sites = [site.module for site in report.sites]
    record: dict[str, Any] = {"ratio": ratio, "at": at, "replaced": len(sites), "sites": sites}
    record["unexplained"] = [site.unexplained for site in report.sites]
    record["multiply_adds"] = count_multiply_adds(fitted, (3, size, size))
    record["maps"] = top1(fitted)
    example = fit[:2]
    by_weights = copy.deepcopy(model)
    draws = []
    if sites:
        ww.ghostify(by_weights, ratio, sites, example=example, seconds=0)
        renew_statistics(by_weights, fit.split(50))
    for seed in range(seeds):
        torch.manual_seed(seed)
        drawn = copy.deepcopy(model)
        if sites:
            ww.ghostify(drawn, ratio, sites, start="random", example=example, seconds=0)
            renew_statistics(drawn, fit.split(50))
        draws.append(top1(drawn))
    narrow = narrowed(model, record["multiply_adds"], size)
    renew_statistics(narrow, fit.split(50))
    return {**record, "weights": top1(by_weights), "random": draws, "narrowed": top1(narrow)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    setting = tyro.cli(Ghost, prog="python -m benchmarks.ghost", args=arguments, description=Ghost.__doc__)
    try:
        measure(setting)
    except WhatwhereError as error:
        ERR.print(f"benchmarks.ghost: {error}", markup=False)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
