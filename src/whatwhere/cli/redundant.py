"""The command redundancy, a dataclass whose fields are its options."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ..errors import WhatwhereError
from .show import ERR, OUT

if TYPE_CHECKING:
    from torch import nn

    from ..tasks import Task


@dataclass(frozen=True)
class Redundancy:
    """Measure how many maps of each convolution are nearly a cheap function of another map of it, and draw it.

    Each map is fitted from every other of its layer, by one factor and by a depthwise 3×3 convolution, over training
    images. This is what ghost modules build on.

    Try:
        whatwhere redundancy runs/classify --untrained
        whatwhere redundancy resnet18 --pretrained --data path/to/images --at "layer1.*"
        whatwhere redundancy tf_efficientnet_lite0 --weights lite0.pth --data path/to/images --untrained
    """

    network: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NETWORK")]
    """Folder of a run of whatwhere train or study; or a small network of ours or any timm model, with random weights
    unless --weights or --pretrained is given."""
    weights: str | None = None
    """For a network by name: a checkpoint of it, see whatwhere train --help."""
    pretrained: bool = False
    """For a network by name: load timm's weights."""
    data: str | None = None
    """For a network by name: scenes, a folder with train/ and val/ or test/, and in each a folder per class, hf:NAME or
    wds:DIR; by default scenes."""
    size: int | None = None
    """For a network by name: side of the images in pixels."""
    untrained: bool = False
    """Measure the same network with random weights as well, and draw its curves beside. Random weights are measured
    with batch statistics of the images, as at the first step of training."""
    at: tuple[str, ...] = ("*",)
    """Which convolutions: globs over their names."""
    after: Literal["activation", "convolution"] = "activation"
    """Measure what a convolution gives, or what batch normalisation and activation make of it."""
    images: int = 256
    """Training images to measure on, at most."""
    checkpoint: Literal["best", "last"] = "best"
    """For a run: which weights."""
    out: Path = Path("redundancy.png")
    """The figure: .png, .pdf or .svg."""

    def run(self) -> None:
        """Measure, print and draw."""
        from ..tasks import TaskImages
        from ..views import redundancy
        from ..views.result import FORMATS

        if self.out.suffix.lower().removeprefix(".") not in FORMATS:  # now, rather than after minutes
            raise WhatwhereError(f"--out {self.out}: the name must end in {', '.join('.' + f for f in FORMATS)}")
        task, model, trained, seed = self._open()
        images = TaskImages(task, "train", limit=self.images)
        beside, random = {}, "random weights"
        with ERR.status("measuring") as status:

            def tell(name: str, count: int) -> None:
                status.update(f"measuring {name}: {count} images")

            if self.untrained and trained:
                plain = task.build(seed, pretrained=False)
                beside[random] = redundancy(
                    plain,
                    images,
                    self.at,
                    after=self.after,
                    renew_statistics=True,
                    on_batch=lambda count: tell(random, count),
                )
            name = "trained" if trained else random
            found = redundancy(
                model,
                images,
                self.at,
                after=self.after,
                renew_statistics=not trained,
                beside=beside,
                name=name,
                on_batch=lambda count: tell(self.network, count),
            )
        found.save(self.out)
        for title, one in {name: found, **beside}.items():
            OUT.print(f"{self.network}, {title}", markup=False, highlight=False)
            OUT.print(str(one), markup=False, highlight=False)
            OUT.print()
        OUT.print(f"drawn in {self.out}", markup=False)

    def _open(self) -> "tuple[Task, nn.Module, bool, int]":
        """Return the task, the network, whether that is trained, and the seed of its random weights."""
        from ..data import DataConfig
        from ..networks import ModelConfig
        from ..tasks import create
        from ..tasks.classify import ClassifyConfig
        from ..training import load_run

        named = {"weights": self.weights, "pretrained": self.pretrained, "data": self.data, "size": self.size}
        if Path(self.network).is_dir() or "/" in self.network:
            given = [f"--{name}" for name, value in named.items() if value]
            if given:
                raise WhatwhereError(f"{self.network} is a run, which has its own: leave out {', '.join(given)}")
            run = load_run(self.network, self.checkpoint)
            return run.task, run.model, True, int(run.config["recipe"]["seed"])
        if self.untrained and not (self.weights or self.pretrained):
            raise WhatwhereError(f"{self.network} has random weights already: give --weights or --pretrained too")
        source = self.data or "scenes"
        limit = self.images if source.startswith("scenes") else None
        data = DataConfig(source, size=self.size, train_limit=limit, test_limit=limit, memory_gb=0)
        model = ModelConfig(self.network, weights=self.weights, pretrained=self.pretrained)
        task = create("classify", ClassifyConfig(data, model))
        return task, task.build(0), model.trained, 0
