"""The commands that do work: study, train, look. Each is a dataclass whose fields are its options."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..data import DataConfig
from ..errors import WhatwhereError
from ..networks import ModelConfig
from ..studies import StudyConfig
from ..training import Recipe
from .show import OUT, make_table


@dataclass(frozen=True)
class Study(StudyConfig):  # noqa: D101
    __doc__ = StudyConfig.__doc__

    def run(self) -> None:
        """Run the study and print its table."""
        from ..studies import study
        from ..studies.results import COST_TITLES, cells, header

        results = study(StudyConfig(**{f: getattr(self, f) for f in StudyConfig.__dataclass_fields__}))
        titles = header(results.rows)
        rows = [cells(row, results.rows) for row in results.rows]
        quality = [i for i, title in enumerate(titles) if i == 0 or title not in COST_TITLES]
        costs = [i for i, title in enumerate(titles) if i == 0 or title in COST_TITLES]
        for chosen in (quality, costs):
            OUT.print(make_table([titles[i] for i in chosen], [[row[i] for i in chosen] for row in rows]))
        for remark in results.remarks:
            OUT.print(f"note: {remark}", markup=False)
        OUT.print(f"everything is in {self.out}; read {self.out / 'report.html'}", markup=False)


@dataclass(frozen=True)
class Classify:
    """Train a network to classify images.

    Try:
        whatwhere train classify --data scenes --attention cbam
        whatwhere train classify --data path/to/images --model resnet18 --pretrained --attention se --epochs 20 --lr 1e-3
        whatwhere train classify --data path/to/images --resume
        torchrun --nproc-per-node 4 -m whatwhere train classify --data path/to/images --model resnet50
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: str = "small-resnet"
    """A small network of ours (small-resnet, small-resnet-32, small-vgg, small-mobilenet) or any timm model."""
    attention: str = "none"
    """NAME[:paper][:OPTION=VALUE]: NAME alone starts at the identity, :paper in the paper's form."""
    pretrained: bool = False
    """Start from timm's pretrained weights."""
    weights: str | None = None
    """Start from this checkpoint of the plain network (.safetensors, .pth), whichever names its tensors have."""
    label_smoothing: float = 0.1
    """Share of the target that is spread over all classes."""
    augment: Literal["light", "none"] = "light"
    """Light: shifted, and mirrored where that keeps the label."""
    recipe: Recipe = field(default_factory=Recipe)
    out: Path = Path("runs/classify")
    """Folder of the run: config, metrics, checkpoints."""
    resume: bool = False
    """Go on with the run in that folder."""

    def run(self) -> None:
        """Train and say where it is."""
        from ..tasks import create
        from ..tasks.classify import ClassifyConfig
        from ..training import train

        model = ModelConfig(name=self.model, attention=self.attention, pretrained=self.pretrained, weights=self.weights)
        task = create("classify", ClassifyConfig(self.data, model, self.label_smoothing, self.augment))
        result = train(task, self.recipe, self.out, resume=self.resume)
        OUT.print(
            f"{result.metric} {100 * result.last:.2f} % after the last epoch, best {100 * result.best:.2f} % (epoch {result.best_epoch}), "
            f"in {result.seconds:.0f} s; everything is in {result.folder}",
            markup=False,
        )


@dataclass(frozen=True)
class Look:
    """Draw what a trained network sees in an image: spatial gates over it, channel gates, Grad-CAM, prediction.

    Try:
        whatwhere look cat.jpg --run runs/classify
        whatwhere look test:17 --run runs/study/cbam/seed-0 --out look.png
    """

    image: tyro.conf.Positional[str]
    """An image file, or test:N for image N of the run's own test set."""
    run_dir: Annotated[Path, tyro.conf.arg(name="run")]
    """Folder of a run of whatwhere train or study."""
    target: str | None = None
    """The class that Grad-CAM is for; by default the predicted one."""
    checkpoint: Literal["best", "last"] = "best"
    """Which weights."""
    out: Path = Path("look.png")
    """The figure: .png, .pdf or .svg."""

    def run(self) -> None:
        """Draw and save."""
        from ..training import load_run
        from ..views import look

        run = load_run(self.run_dir, self.checkpoint)
        image: Any = self.image
        kind, _, number = self.image.partition(":")
        if kind == "test" and number.isdecimal():
            if int(number) >= len(run.task.test_set):
                raise WhatwhereError(f"the run's test set has images 0 to {len(run.task.test_set) - 1}, not {number}")
            image = run.task.test_set.__getitems__([int(number)])["images"][0]
        seen = look(run.model, image, target=self.target, **run.task.viewing)
        seen.save(self.out)
        OUT.print(f"{seen.prediction} ({seen.confidence:.1%}); drawn in {self.out}", markup=False)
