"""How attention changes the answers of a trained network on real images, before anything is trained."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

import whatwhere as ww
from whatwhere.checkpoints import build
from whatwhere.cli.show import ERR, make_table
from whatwhere.data import Preprocessing, Unreadable, read_image
from whatwhere.data.image import SUFFIXES
from whatwhere.deploy import Batches
from whatwhere.deploy.quality import Quality, compare, torch_run
from whatwhere.errors import WhatwhereError
from whatwhere.files import write_text
from whatwhere.networks import ModelConfig
from whatwhere.tables import markdown_table

from .conditions import describe_conditions, in_words
from .contenders import timm_module
from .peers import attach_peer

TITLES = ("network", "gates at the start", "top-1 %", "same answer as plain %", "logits change by")


@dataclass(frozen=True)
class Start:
    """Run a trained network over images: plain, and with each attention inserted and not trained.

    At the identity start every answer must be that of the plain network. The paper's form, and timm's CBAM at the same
    sites, show the difference; they are drawn at random several times. Nothing is timed, so the machine may be busy.

    Try:
        python -m benchmarks.start --images imagenet-samples --weights efficientnet-lite0-57934424.pth
    """

    images: Path
    """A folder with one folder a class, in the order of the network's classes when sorted."""
    weights: Path
    """The network's weights, as whatwhere.load reads them."""
    model: str = "tf_efficientnet_lite0"
    """A network of timm's."""
    classes: int = 1000
    """How many classes its weights tell apart."""
    attention: tuple[str, ...] = ("se", "eca", "cam", "sam", "cbam", "bam")
    """Which attentions."""
    seeds: int = 3
    """How often what starts at random is drawn."""
    limit: int | None = None
    """Use at most so many images, evenly over the classes' order."""
    out: Path = Path("runs/benchmarks/start")
    """Where the results go: OUT.json and OUT.md."""


class Samples:
    """Images of a folder, the short side at 8/7 of the network's size, its centre cut out, normalised as the network
    takes them.
    """

    def __init__(self, setting: Start, preprocessing: Preprocessing) -> None:
        folders = sorted(path for path in setting.images.glob("*") if path.is_dir())
        if len(folders) != setting.classes:
            raise WhatwhereError(
                f"{setting.images} has {len(folders)} folders, and the network {setting.classes} classes: "
                "one folder a class, in their order"
            )
        files = [
            (path, label)
            for label, folder in enumerate(folders)
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in SUFFIXES
        ]
        count = len(files) if setting.limit is None else min(setting.limit, len(files))
        self.files = [files[i * len(files) // count] for i in range(count)]
        self.preprocessing = preprocessing

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        size = self.preprocessing.size
        edge, margin = size * 8 // 7, (size * 8 // 7 - size) // 2
        for start in track(range(0, len(self.files), 25), "images", console=ERR, transient=True):
            images, labels = [], []
            for path, label in self.files[start : start + 25]:
                try:
                    whole = read_image(path, edge)
                except Unreadable as error:
                    ERR.print(f"left out: {error}", markup=False)
                    continue
                images.append(whole[:, margin : margin + size, margin : margin + size])
                labels.append(label)
            if images:
                yield self.preprocessing.normalise(torch.stack(images)), torch.tensor(labels)


def networks(setting: Start) -> dict[tuple[str, str, int], nn.Module]:
    """Return the networks by name, form and seed, the plain one first."""
    config = ModelConfig(setting.model, classes=setting.classes, weights=str(setting.weights))
    found: dict[tuple[str, str, int], nn.Module] = {("plain", "", 0): build(config).eval()}
    example = torch.zeros(1, 3, 96, 96)

    def add(name: str, form: str, put: Callable[[nn.Module], object], seeds: int) -> None:
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = build(config).eval()
            put(model)
            found[name, form, seed] = model

    for name in setting.attention:
        add(name, "1 (identity)", lambda m, name=name: ww.insert(m, name, example=example), 1)
        add(
            name, "the paper's", lambda m, name=name: ww.insert(m, name, identity=False, example=example), setting.seeds
        )
    add("timm's CBAM", "timm's", lambda m: attach_peer(m, lambda c: timm_module("cbam", c), example), setting.seeds)
    return found


def measure(setting: Start) -> bool:
    """Run everything, print and write; return whether every identity start left every answer alone."""
    samples = Samples(setting, Preprocessing.of(build(ModelConfig(setting.model))))
    models = networks(setting)
    runs = {f"{name}/{form}/{seed}": torch_run(model) for (name, form, seed), model in models.items()}
    with torch.inference_mode():
        quality = compare(runs, Batches(samples))
    forms: dict[tuple[str, str], list[Quality]] = {}
    for key in models:
        forms.setdefault(key[:2], []).append(quality["/".join(map(str, key))])
    rows = [_cells(name, form, found) for (name, form), found in forms.items()]
    count = quality["plain//0"].images
    number = len(ww.sites(models["plain", "", 0]))
    title = f"{setting.model}, {count:,} images of {setting.images.name}; untrained attention at {number} sites"
    conditions = describe_conditions("default", "cpu")
    notes = [
        f"What starts at random was drawn {setting.seeds} times: mean, and lowest to highest. “logits change by”: the "
        "largest change of any logit of any image, as a share of the largest logit of the batch.",
        in_words(conditions),
    ]
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    console.print(title, style="bold", highlight=False)
    console.print(make_table(TITLES, rows, left=(0, 1)))
    for note in notes:
        console.print(note, markup=False, highlight=False)
    setting.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(
        setting.out.with_suffix(".md"), "\n\n".join([f"### {title}", markdown_table(TITLES, rows), *notes]) + "\n"
    )
    values: dict[str, Any] = {key: vars(one) for key, one in quality.items()}
    write_text(
        setting.out.with_suffix(".json"), json.dumps({"conditions": conditions, "quality": values}, indent=1) + "\n"
    )
    return all(one.same == 1 for (_, form), found in forms.items() if "identity" in form for one in found)


def _cells(name: str, form: str, found: Sequence[Quality]) -> list[str]:
    return [
        name,
        form,
        _spread([100 * (one.top1 or 0.0) for one in found], ".1f"),
        "" if name == "plain" else _spread([100 * (one.same or 0.0) for one in found], ".1f"),
        "" if name == "plain" else _spread([one.difference for one in found], ".1e"),
    ]


def _spread(values: Sequence[float], form: str) -> str:
    mean = sum(values) / len(values)
    ends = f" ({min(values):{form}} to {max(values):{form}})" if len(values) > 1 else ""
    return f"{mean:{form}}{ends}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    setting = tyro.cli(Start, prog="python -m benchmarks.start", args=arguments, description=Start.__doc__)
    try:
        if not measure(setting):
            ERR.print("an identity start changed an answer", style="bold red")
            return 1
    except WhatwhereError as error:
        ERR.print(f"benchmarks.start: {error}", markup=False)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
