"""The command detect: boxes of a trained detector on any images, as JSON and drawn."""

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
class FindObjects:
    """Find the objects in images with the network of a run of whatwhere train detect.

    Writes detections.json (for each image its boxes as x1, y1, x2, y2 in pixels, classes and scores) and the images
    with their boxes drawn.

    Try:
        whatwhere detect photo.jpg --run runs/detect
        whatwhere detect folder/of/images --run runs/detect --score 0.5 --out found --no-draw
    """

    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE")]
    """Image files, or folders of them."""
    run_dir: Annotated[Path, tyro.conf.arg(name="run")]
    """Folder of a run of whatwhere train detect, or of a study of it."""
    score: float = 0.3
    """The lowest score of a box, from 0 to 1."""
    out: Path = Path("detections")
    """Folder for what is written."""
    draw: bool = True
    """Also draw the boxes over each image."""
    checkpoint: Literal["best", "last"] = "best"
    """Which weights."""

    def run(self) -> None:
        """Find, write, draw."""
        from ..training import load_run

        if not 0 <= self.score <= 1:
            raise WhatwhereError(f"--score {self.score}: must be from 0 to 1")
        paths = image_files(self.images, "detect")
        run = load_run(self.run_dir, self.checkpoint)
        if not hasattr(run.task, "find"):
            raise WhatwhereError(
                f"{self.run_dir} is a run of the task {run.task.name!r}, which finds no boxes: give one of "
                "whatwhere train detect"
            )
        self.out.mkdir(parents=True, exist_ok=True)
        found: dict[str, Any] = {}
        broken = []
        for path in track(paths, "finding objects", console=ERR, transient=True, disable=len(paths) < 2):
            try:
                found[str(path)] = self._find(run, path)
            except Unreadable as error:
                broken.append(str(error))
        if not found:
            raise WhatwhereError("\n".join(["no image could be read:", *broken]))
        write_text(self.out / "detections.json", json.dumps(found, indent=2) + "\n")
        for name, boxes in found.items():
            words = ", ".join(f"{box['class']} {box['score']:.2f}" for box in boxes[:8]) or "nothing"
            OUT.print(f"{name}: {words}{f' and {len(boxes) - 8} more' if len(boxes) > 8 else ''}", markup=False)
        for line in broken:
            ERR.print(f"left out: {line}", markup=False, highlight=False)
        OUT.print(f"everything is in {self.out}", markup=False)

    def _find(self, run: Any, path: Path) -> list[dict[str, Any]]:
        """Return the boxes in one image, and draw them."""
        found = run.task.find(run.model, path, score=self.score)
        if self.draw:
            name = "-".join(path.parts).strip("/.-")  # with its suffix: a.png and a.jpg are two images
            run.task.draw(path, found).save(self.out / f"{name}.png")
        return [
            {
                "class": run.task.classes[label],
                "score": round(score, 4),
                "box": [round(side, 2) for side in box],
            }
            for box, label, score in zip(
                found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True
            )
        ]
