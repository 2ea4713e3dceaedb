"""The commands export and fold. Each is a dataclass whose fields are its options."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..errors import WhatwhereError
from .show import OUT


@dataclass(frozen=True)
class Export:
    """Write the network of a run to a file that runs elsewhere, and check that file on the run's test images.

    Try:
        whatwhere export runs/classify --to onnx
        whatwhere export runs/classify --int8
        whatwhere export runs/study/cbam/seed-0 --to pt2 --out cbam.pt2
    """

    run_dir: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run of whatwhere train or study."""
    to: Literal["onnx", "pt2"] = "onnx"
    """ONNX, or a program of torch.export."""
    out: Path | None = None
    """The file; by default model.onnx or model.pt2 in the run's folder."""
    int8: bool = False
    """Write an int8 ONNX file as well, beside the other."""
    calibrate: int = 500
    """Training images that the ranges of int8 are measured over, at most."""
    images: int | None = None
    """Test images to compare on, at most; by default all."""
    checkpoint: Literal["best", "last"] = "best"
    """Which weights."""

    def run(self) -> None:
        """Write, check and print."""
        from ..deploy import TaskImages, export
        from ..training import load_run

        if self.int8 and self.to != "onnx":
            raise WhatwhereError("--int8 is for ONNX: leave out --to pt2")
        run = load_run(self.run_dir, self.checkpoint)
        out = self.out or self.run_dir / f"model.{self.to}"
        if out.suffix != f".{self.to}":
            raise WhatwhereError(f"--out {out}: with --to {self.to} the name must end in .{self.to}")
        data = TaskImages(run.task, limit=self.images)
        quantize = TaskImages(run.task, "train", limit=self.calibrate) if self.int8 else None
        OUT.print(str(export(run.model, out, data=data, quantize=quantize)), markup=False, highlight=False)


@dataclass(frozen=True)
class Fold:
    """Fold channel gates that do not move from image to image into the layers beside them, and say what that saves.

    Gates are watched over training images; accuracy before and after is that on test images. The run is left as it is:
    --out writes the folded network.

    Try:
        whatwhere fold runs/classify --dry-run
        whatwhere fold runs/classify --tolerance 0.1 --out folded.onnx
    """

    run_dir: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run of whatwhere train or study."""
    tolerance: float = 0.05
    """How much gates may move: the largest standard deviation of a site's channels, as a share of its mean gate."""
    dry_run: bool = False
    """Only say what would happen."""
    out: Path | None = None
    """Write the folded network to this file, .onnx or .pt2, and check it as whatwhere export does."""
    watch: int = 500
    """Training images to watch the gates over, at most."""
    images: int | None = None
    """Test images to compare on, at most; by default all."""
    seconds: float = 3.0
    """About how long the network is timed before and after; 0 leaves that out."""
    checkpoint: Literal["best", "last"] = "best"
    """Which weights."""

    def run(self) -> None:
        """Fold, print, and write."""
        from ..deploy import TaskImages, export, fold
        from ..training import load_run

        if self.dry_run and self.out:
            raise WhatwhereError("--dry-run writes nothing: leave out --out")
        run = load_run(self.run_dir, self.checkpoint)
        test = TaskImages(run.task, limit=self.images)
        report = fold(
            run.model,
            TaskImages(run.task, "train", limit=self.watch),
            self.tolerance,
            test=test,
            dry_run=self.dry_run,
            seconds=self.seconds,
        )
        OUT.print(str(report), markup=False, highlight=False)
        if self.out:
            OUT.print()
            OUT.print(str(export(run.model, self.out, data=test)), markup=False, highlight=False)
        elif not self.dry_run:
            OUT.print("nothing was written: --out folded.onnx keeps the folded network", markup=False)
