"""The commands study, train and look. Their options are the fields of the dataclasses that Python callers use."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from ..errors import WhatwhereError
from ..studies import StudyConfig
from ..tasks import Entry, entry, names
from ..training import Recipe
from .options import documentation, parse
from .show import OUT, make_table

CONFIG = "What the networks learn, and from which images."


@dataclass(frozen=True)
class Train:
    """Training of one task; a subclass for each task has that task's configuration."""

    task: ClassVar[str]
    config: Any
    """What the network learns, and from which images."""
    recipe: Recipe = field(default_factory=Recipe)
    out: Path = Path("runs/run")
    """Folder of the run: config, metrics, checkpoints."""
    resume: bool = False
    """Go on with the run in that folder."""

    def run(self) -> None:
        """Train and say where it is."""
        from ..tasks import create
        from ..training import train
        from ..training.progress import duration

        task = create(self.task, self.config)
        result = train(task, self.recipe, self.out, resume=self.resume)
        last, best = task.headline.text(result.last), task.headline.text(result.best)
        OUT.print(
            f"{result.metric} {last} after the last epoch, best {best} (epoch {result.best_epoch}), "
            f"in {duration(result.seconds)}; everything is in {result.folder}",
            markup=False,
        )


@dataclass(frozen=True)
class Study:
    """A study that is ready to run."""

    config: StudyConfig

    def run(self) -> None:
        """Run the study and print what it says and its table."""
        from ..studies import study
        from ..studies.report import summarise
        from ..studies.results import COST_TITLES

        results = study(self.config)
        for sentence in summarise(results):
            OUT.print(sentence, markup=False, highlight=False)
        titles = results.titles
        rows = [results.cells(row) for row in results.rows]
        quality = [i for i, title in enumerate(titles) if title not in COST_TITLES]
        costs = [0, *(i for i, title in enumerate(titles) if title in COST_TITLES)]
        for chosen in (quality, costs):
            OUT.print(make_table([titles[i] for i in chosen], [[row[i] for i in chosen] for row in rows]))
        for remark in results.remarks:
            OUT.print(f"note: {remark}", markup=False)
        out = Path(self.config.out)
        OUT.print(f"everything is in {out}; read {out / 'report.html'}", markup=False)


def read_train(words: Sequence[str]) -> Train:
    """Return the training that ``whatwhere train`` and these words ask for."""
    if not words or words[0].startswith("-"):
        _list_tasks("train", asked=words[:1] in (["-h"], ["--help"]))
    found = entry(words[0])
    own = [
        ("config", found.config, field(default_factory=found.config)),
        ("recipe", Recipe, field(default_factory=partial(Recipe, **found.cls.recipe))),
        ("out", Path, Path("runs") / found.name),
    ]
    command = make_dataclass("Train", own, bases=(Train,), frozen=True, namespace={"task": found.name})
    return parse(
        command, f"whatwhere train {found.name}", words[1:], help_text=_train_help(found), without=_own_attention(found)
    )


def read_study(words: Sequence[str]) -> Study:
    """Return the study that ``whatwhere study`` and these words ask for; the default task needs no name."""
    named = bool(words) and not words[0].startswith("-")
    found = entry(words[0] if named else StudyConfig.task)
    config = _without_attention(found)
    own = [
        ("task", Annotated[str, tyro.conf.Suppress], found.name),
        ("config", Annotated[config, tyro.conf.arg(help=CONFIG)], field(default_factory=config)),
        ("attention", tuple[str, ...], field(default=found.cls.attentions)),
        ("seeds", int, found.cls.seeds),
        ("recipe", Recipe, field(default_factory=partial(Recipe, **found.cls.recipe))),
    ]
    command = make_dataclass("Study", own, bases=(StudyConfig,), frozen=True)
    prog = f"whatwhere study {found.name}" if named else "whatwhere study"
    asked: Any = parse(command, prog, words[named:], help_text=_study_help(found), without=("attention", "ghost"))
    return Study(StudyConfig(**{f.name: getattr(asked, f.name) for f in fields(StudyConfig)}))


def _own_attention(found: Entry) -> tuple[str, ...]:
    """Return which option of the network a task has in its own form."""
    return ("attention",) if any(one.name == "attention" for one in fields(found.config)) else ()


def _without_attention(found: Entry) -> type[Any]:
    """Return a task's configuration without the option for attention that it may have: a study sets it."""
    if not _own_attention(found):
        return found.config
    hidden = ("attention", Annotated[str, tyro.conf.Suppress], field(default="none"))
    return make_dataclass(found.config.__name__, [hidden], bases=(found.config,), frozen=True)


@dataclass(frozen=True)
class Look:
    """Draw what the network of a run makes of an image.

    For a classifier: the spatial gates over the image, the channel gates, Grad-CAM and the prediction.

    Try:
        whatwhere look cat.jpg --run runs/classify
        whatwhere look test:17 --run runs/study/cbam/seed-0 --out look.png
    """

    image: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="IMAGE")]
    """An image file, or test:N for image N of the run's own test set."""
    run_dir: Annotated[Path, tyro.conf.arg(name="run")]
    """Folder of a run of whatwhere train or study."""
    target: str | None = None
    """What to explain, where the task takes that. For classify: the class of Grad-CAM, by default the predicted one."""
    checkpoint: Literal["best", "last"] = "best"
    """Which weights."""
    out: Path = Path("look.png")
    """The figure: .png, .pdf or .svg."""

    def run(self) -> None:
        """Draw and save."""
        from ..training import load_run

        run = load_run(self.run_dir, self.checkpoint)
        image: str | int = self.image
        kind, _, number = self.image.partition(":")
        if kind == "test" and number.isdecimal():
            image = int(number)
            if image >= len(run.task.test_set):
                raise WhatwhereError(f"the run's test set has images 0 to {len(run.task.test_set) - 1}, not {number}")
        drawing = run.task.look(run.model, image, target=self.target)
        drawing.save(self.out)
        OUT.print(f"{drawing.caption}; drawn in {self.out}", markup=False)


def _list_tasks(command: str, *, asked: bool) -> None:
    """Print the tasks and end the program."""
    lines = [f"usage: whatwhere {command} TASK [options]", "", "The tasks:"]
    lines += [f"  {name}  {entry(name).title}" for name in names()]
    lines += ["", f"whatwhere {command} TASK --help tells the options of a task."]
    print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
    raise SystemExit(0 if asked else 2)


def _train_help(found: Entry) -> str:
    """Return the docstring of a task's configuration, with an example where it has none."""
    text = documentation(found.config)
    if text.startswith(f"{found.config.__name__}("):  # what Python writes where there is none
        text = f"{found.title}."
    start = f"whatwhere train {found.name}"
    return text if start in text else f"{text}\n\nTry:\n    {start} --epochs 10\n    {start} --resume"


def _study_help(found: Entry) -> str:
    """Return the docstring of :class:`StudyConfig`, its examples for this task."""
    text = documentation(StudyConfig).split("\n\nRaises:")[0]
    if found.name == StudyConfig.task:
        return text
    return re.sub(
        r"Try:\n.*", f"Try:\n    whatwhere study {found.name} --attention se cbam --seeds 5", text, flags=re.DOTALL
    )
