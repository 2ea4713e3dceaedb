"""The command line: one dataclass a command, the same that Python callers use where there is one."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import __version__
from .data import DataConfig
from .errors import WhatwhereError
from .layers import entry, names, parse
from .markdown import markdown_table
from .networks import ModelConfig, build, sites
from .studies import StudyConfig
from .training import Recipe

if TYPE_CHECKING:
    from torch import nn

OUT = Console(soft_wrap=True)
ERR = Console(stderr=True, soft_wrap=True)

ABOUT = """Channel attention ("what") and spatial attention ("where") for convolutional networks.

  whatwhere study                                     is attention worth its cost? on built-in pictures, in minutes
  whatwhere study --data DIR --model resnet18         the same on your pictures (train/ and test/, a folder per class)
  whatwhere train classify --data DIR --attention cbam
  whatwhere look PICTURE --run runs/classify          what does the network see?
  whatwhere cost resnet50 --attention se cbam         what does attention cost?
  whatwhere sites resnet50                            where would it go?
  whatwhere names                                     which attentions are there?
"""


@dataclass(frozen=True)
class Study(StudyConfig):  # noqa: D101
    __doc__ = StudyConfig.__doc__

    def run(self) -> None:
        """Run the study and print its table."""
        from .studies import study
        from .studies.results import COST_TITLES, cells, header

        results = study(StudyConfig(**{f: getattr(self, f) for f in StudyConfig.__dataclass_fields__}))
        titles = header(results.rows)
        rows = [cells(row, results.rows) for row in results.rows]
        quality = [i for i, title in enumerate(titles) if i == 0 or title not in COST_TITLES]
        costs = [i for i, title in enumerate(titles) if i == 0 or title in COST_TITLES]
        for chosen in (quality, costs):
            OUT.print(_table([titles[i] for i in chosen], [[row[i] for i in chosen] for row in rows]))
        for remark in results.remarks:
            OUT.print(f"note: {remark}", markup=False)
        OUT.print(f"everything is in {self.out}; read {self.out / 'report.html'}", markup=False)


@dataclass(frozen=True)
class Classify:
    """Train a network to classify pictures.

    Try:
        whatwhere train classify --data scenes --attention cbam
        whatwhere train classify --data path/to/pictures --model resnet18 --pretrained --attention se --epochs 20 --lr 1e-3
        whatwhere train classify --data path/to/pictures --resume
        torchrun --nproc-per-node 4 -m whatwhere train classify --data path/to/pictures --model resnet50
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: str = "small-resnet"
    """A small network of ours (small-resnet, small-resnet-32, small-vgg, small-mobilenet) or any timm model."""
    attention: str = "none"
    """NAME[:paper][:OPTION=VALUE]: NAME alone starts at the identity, :paper in the paper's form."""
    pretrained: bool = False
    """Start from timm's pretrained weights."""
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
        from .tasks import create
        from .tasks.classify import ClassifyConfig
        from .training import train

        model = ModelConfig(name=self.model, attention=self.attention, pretrained=self.pretrained)
        task = create("classify", ClassifyConfig(self.data, model, self.label_smoothing, self.augment))
        result = train(task, self.recipe, self.out, resume=self.resume)
        OUT.print(
            f"{result.metric} {100 * result.last:.2f} % after the last epoch, best {100 * result.best:.2f} % (epoch {result.best_epoch}), "
            f"in {result.seconds:.0f} s; everything is in {result.folder}",
            markup=False,
        )


@dataclass(frozen=True)
class Look:
    """Draw what a trained network sees in a picture: spatial gates over it, channel gates, Grad-CAM, prediction.

    Try:
        whatwhere look cat.jpg --run runs/classify
        whatwhere look test:17 --run runs/study/cbam/seed-0 --out look.png
    """

    image: tyro.conf.Positional[str]
    """A picture file, or test:N for picture N of the run's own test set."""
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
        from .training import load_run
        from .views import look

        run = load_run(self.run_dir, self.checkpoint)
        image: Any = self.image
        kind, _, number = self.image.partition(":")
        if kind == "test" and number.isdecimal():
            if int(number) >= len(run.task.test_set):
                raise WhatwhereError(f"the run's test set has pictures 0 to {len(run.task.test_set) - 1}, not {number}")
            image = run.task.test_set.__getitems__([int(number)])["images"][0]
        seen = look(run.model, image, target=self.target, **run.task.viewing)
        seen.save(self.out)
        OUT.print(f"{seen.prediction} ({seen.confidence:.1%}); drawn in {self.out}", markup=False)


@dataclass(frozen=True)
class Cost:
    """Measure what attention costs: parameters, multiply-adds, time of a training step and of inference, memory.

    Try:
        whatwhere cost resnet50 --attention cbam
        whatwhere cost efficientnet_b0 --attention se cbam:reduction=8 --batch-size 8 --size 160
    """

    model: tyro.conf.Positional[str]
    """A small network of ours or any timm model."""
    attention: tuple[str, ...] = ("cbam",)
    """Attentions beside the plain network."""
    size: int = 224
    """Side of the pictures in pixels."""
    batch_size: int = 8
    """Pictures in a batch."""
    channels_last: bool = False
    """Measure in the channels-last layout."""
    device: str | None = None
    """By default the GPU where there is one."""
    seconds: float = 6.0
    """How long each network is timed, roughly."""

    def run(self) -> None:
        """Measure and print."""
        from .studies import measure_costs

        specs = [spec for word in self.attention for spec in word.split(",") if spec]
        models: dict[str, nn.Module] = {}
        for spec in ["none", *specs]:
            parse(spec)
            models[spec] = build(ModelConfig(name=self.model, attention=spec, classes=1000), self.size)
        shape = (3, self.size, self.size)
        with OUT.status("measuring"):
            costs = measure_costs(
                models,
                shape,
                batch_size=self.batch_size,
                device=self.device,
                channels_last=self.channels_last,
                seconds=self.seconds,
            )
        plain = costs["none"]
        rows = []
        for name, cost in costs.items():
            rows.append(
                [
                    name,
                    f"{cost.parameters:,} (+{100 * (cost.parameters / plain.parameters - 1):.2f} %)",
                    f"{cost.multiply_adds / 1e6:,.1f} M (+{100 * (cost.multiply_adds / plain.multiply_adds - 1):.3f} %)",
                    *(
                        f"{t.median:.1f} [{t.low:.1f} to {t.high:.1f}] ×{t.median / p.median:.2f}"
                        for t, p in ((cost.step, plain.step), (cost.inference, plain.inference))
                    ),
                    f"{cost.memory / 1e6:.1f} ×{cost.memory / plain.memory:.2f}",
                ]
            )
        titles = [
            "attention",
            "parameters",
            "multiply-adds",
            "step ms [quartiles]",
            "inference ms [quartiles]",
            "step memory MB",
        ]
        OUT.print(_table(titles, rows))
        OUT.print(
            f"{self.model}, {self.size}×{self.size}, batches of {self.batch_size}, on {plain.device}", markup=False
        )


@dataclass(frozen=True)
class Sites:
    """List the places where attention would go in a network, and why there.

    Try:
        whatwhere sites resnet50
        whatwhere sites mobilenetv3_large_100 --size 160
    """

    model: tyro.conf.Positional[str]
    """A small network of ours or any timm model."""
    size: int = 224
    """Side of the picture that is run through it once."""

    def run(self) -> None:
        """Find and print."""
        import torch

        model = build(ModelConfig(name=self.model, classes=1000), self.size)
        found = sites(model, torch.zeros(1, 3, self.size, self.size))
        rows = [[s.place, s.kind, str(s.channels), f"{s.size[0]}×{s.size[1]}", s.why] for s in found]
        OUT.print(_table(["place", "kind", "channels", "map", "why"], rows, left=(0, 1, 4)))


@dataclass(frozen=True)
class Names:
    """List the attentions.

    Try:
        whatwhere names
        whatwhere names --markdown
    """

    markdown: bool = False
    """Print the table as in the README."""

    def run(self) -> None:
        """Print."""
        rows = [[e.name, e.cls.__name__, e.title, e.formula, e.paper] for e in map(entry, names())]
        titles = ["name", "class", "what it is", "gates", "paper"]
        if self.markdown:
            print(markdown_table(titles, [[f"`{r[0]}`", f"`{r[1]}`", *r[2:]] for r in rows]))
        else:
            OUT.print(_table(titles, rows, left=range(5)))


COMMANDS: dict[str, Any] = {"study": Study, "look": Look, "cost": Cost, "sites": Sites, "names": Names}
TASKS: dict[str, Any] = {"classify": Classify}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 2 for what the user can mend, 130 when interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--version"]:
        print(f"whatwhere {__version__}")
        return 0
    try:
        read(words).run()
    except WhatwhereError as error:
        ERR.print(f"[bold red]whatwhere:[/] {escape(str(error))}", highlight=False)
        return 2
    except KeyboardInterrupt:
        again = shlex.join(["whatwhere", *words])
        ERR.print(f"stopped. What is finished is kept; to go on (train: with --resume): {again}", markup=False)
        return 130
    return 0


def read(words: Sequence[str]) -> Any:
    """Return the command that the words ask for, not yet run; what cannot be read ends the program with status 2."""
    if words[:1] == ["train"]:
        about = "Train a network. The task says what it learns."
        return _parse(TASKS, words[1:], "whatwhere train", about)
    listed = {**COMMANDS, "train": TASKS["classify"]}
    order = ("study", "train", "look", "cost", "sites", "names")
    return _parse({name: listed[name] for name in order}, words, "whatwhere", ABOUT)


def _parse(commands: dict[str, Callable[..., Any]], words: Sequence[str], prog: str, about: str) -> Any:
    return tyro.extras.subcommand_cli_from_dict(
        commands,
        prog=prog,
        description=about,
        args=list(words),
        config=(tyro.conf.OmitArgPrefixes,),
    )


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> Table:
    table = Table()
    for index, title in enumerate(titles):
        table.add_column(title, justify="left" if index in left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table
