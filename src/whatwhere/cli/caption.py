"""The command caption: sentences of a trained captioner about any images."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.progress import track

from ..data.image import Unreadable
from ..errors import WhatwhereError
from ..files import write_text
from .images import image_files
from .show import ERR, OUT


@dataclass(frozen=True)
class WriteCaptions:
    """Write a sentence about images with the network of a run of whatwhere train caption.

    Prints the best sentence for each image. With --out also writes captions.json (for each image the sentences that the
    search kept, and their log-probabilities), and with --look what was attended to at each word.

    Try:
        whatwhere caption photo.jpg --run runs/caption
        whatwhere caption folder/of/images --run runs/caption --beam 5 --out captions
        whatwhere caption photo.jpg --run runs/caption --out captions --look html
    """

    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE")]
    """Image files, or folders of them."""
    run_dir: Annotated[Path, tyro.conf.arg(name="run")]
    """Folder of a run of whatwhere train caption, or of a study of it."""
    beam: int | None = None
    """How many beginnings the search keeps; by default as in training. 1 takes the likeliest word each time."""
    out: Path | None = None
    """Folder for what is written."""
    look: Literal["none", "png", "html", "gif"] = "none"
    """Also draw the gates of each word: a figure, an animated page, or a GIF. Needs --out."""
    checkpoint: Literal["best", "last"] = "best"
    """Which weights."""

    def run(self) -> None:
        """Write, print, draw."""
        from ..training import load_run

        if self.look != "none" and self.out is None:
            raise WhatwhereError(f"--look {self.look} needs a folder to write to: add --out captions")
        if self.beam is not None and self.beam < 1:
            raise WhatwhereError(f"--beam {self.beam}: must be at least 1")
        paths = image_files(self.images, "caption")
        run = load_run(self.run_dir, self.checkpoint)
        if not hasattr(run.task, "describe"):
            raise WhatwhereError(
                f"{self.run_dir} is a run of the task {run.task.name!r}, which writes no sentences: give one of "
                "whatwhere train caption"
            )
        found: dict[str, Any] = {}
        broken = []
        for path in track(paths, "writing sentences", console=ERR, transient=True, disable=len(paths) < 2):
            try:
                found[str(path)] = self._describe(run, path)
            except Unreadable as error:
                broken.append(str(error))
        if not found:
            raise WhatwhereError("\n".join(["no image could be read:", *broken]))
        for name, sentences in found.items():
            OUT.print(f"{name}: {sentences[0]['caption']}", markup=False, highlight=False)
        for line in broken:
            ERR.print(f"left out: {line}", markup=False, highlight=False)
        if self.out is not None:
            write_text(self.out / "captions.json", json.dumps(found, indent=2, ensure_ascii=False) + "\n")
            OUT.print(f"everything is in {self.out}", markup=False)

    def _describe(self, run: Any, path: Path) -> list[dict[str, Any]]:
        """Return the sentences about one image, and draw what was attended to."""
        found = run.task.describe(run.model, path, beam=self.beam)
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            if self.look != "none":
                name = "-".join(path.parts).strip("/.-")  # with its suffix: a.png and a.jpg are two images
                target = found[0].text or None
                run.task.look(run.model, path, target=target).save(self.out / f"{name}.{self.look}")
        return [
            {"caption": one.text, "log_probability": round(one.log_probability, 4), "ended": one.ended} for one in found
        ]
