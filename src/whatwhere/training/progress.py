"""The progress bar of a training run: loss, headline metric, images a second, time left."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..tasks import Headline


def duration(seconds: float) -> str:
    """Return a time in words: ``47 s``, ``3 min 05 s``.

    Example:
        >>> duration(185.2)
        '3 min 05 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class _Field(ProgressColumn):
    """Shows one named field of the bar."""

    def __init__(self, name: str, style: str = "") -> None:
        super().__init__()
        self.name = name
        self.style = style

    def render(self, task: Task) -> Text:
        return Text(task.fields.get(self.name, ""), style=self.style)


class Bar:
    """A bar over all steps of a run, and a line for each finished epoch. Does nothing when switched off."""

    def __init__(self, headline: Headline, *, epochs: int, steps: int, done: int, shown: bool) -> None:
        self.headline = headline
        self.epochs = epochs
        self.console = Console()
        self.progress: Progress | None = None
        self.since = time.perf_counter()
        self.images = 0
        self.smooth: dict[str, float] = {}
        if shown:
            columns: list[ProgressColumn] = [
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                _Field("numbers"),
                _Field("rate", "cyan"),
                TimeRemainingColumn(),
            ]
            self.progress = Progress(*columns, console=self.console, refresh_per_second=4, transient=True)
            self.task = self.progress.add_task("epoch 1", total=steps, completed=done, numbers="", rate="")

    def __enter__(self) -> "Bar":
        if self.progress is not None:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def step(self, epoch: int, step: int, values: Mapping[str, float], images: int) -> None:
        """Show that ``step`` steps are done, the last of them with these values."""
        if self.progress is None:
            return
        for name, value in values.items():
            self.smooth[name] = 0.95 * self.smooth.get(name, value) + 0.05 * value
        self.images += images
        now = time.perf_counter()
        if now - self.since < 0.25:
            return
        self.progress.update(
            self.task,
            completed=step,
            description=f"epoch {epoch}/{self.epochs}",
            numbers="  ".join(self._text(name, value) for name, value in self.smooth.items()),
            rate=f"{self.images / (now - self.since):,.0f} images/s",
        )
        self.images, self.since = 0, now

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Print the line of a finished epoch."""
        if self.progress is None:
            return
        parts = [f"epoch {row['epoch']:>{len(str(self.epochs))}}/{self.epochs}"]
        key = self.headline.key
        parts += [self._text("loss", row["train_loss"])]
        parts += [f"test {self._text(key, row[f'test_{key}'])}{' (best)' if row['best'] else ''}"]
        parts.append(f"{row['images_per_second']:,.0f} images/s")
        self.progress.console.print("  ".join(parts), highlight=False)

    def say(self, text: str) -> None:
        """Print a line."""
        if self.progress is not None:
            self.progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _text(self, name: str, value: float | None) -> str:
        """Return a name with its value: the headline metric as it is printed everywhere, others with three decimals."""
        if value is None:
            return f"{name} –"
        return f"{name} {self.headline.text(value) if name == self.headline.key else f'{value:.3f}'}"
