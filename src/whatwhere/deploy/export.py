"""Writing a network to a file that runs elsewhere, and checking that file before it appears."""

import copy
import os
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError, require
from ..files import replacing
from ..graph.batches import Batches
from ..graph.difference import difference
from ..graph.guard import evaluation_mode
from ..graph.probe import probe_inputs
from ..graph.wrappers import unwrap
from ..networks.dense import DenseDetector, is_detector
from ..tables import ShownAsText, counted, share, table
from .int8 import quantise
from .quality import Quality, Run, compare, torch_run
from .runtimes import has_openvino, onnxruntime_run, openvino_run, program_run

LIMIT = 1e-4
"""The largest difference to PyTorch, as a share of the largest output, with which a float32 file is kept."""
BATCHES = (1, 2, 3)
"""The sizes of the batches that a file is checked with."""
DENSE = (
    "the outputs are all boxes (N, A, 4) and their scores (N, A, classes): non-maximum suppression comes after it, see "
    "whatwhere.networks.dense.select"
)


@dataclass(frozen=True)
class Check:
    """One run of an exported file beside PyTorch: the largest difference as a share of the largest output."""

    runtime: str
    batch: int
    difference: float


@dataclass(frozen=True)
class ExportReport(ShownAsText):
    """What was written, and how it was checked; ``str(report)`` is a table.

    Attributes:
        path: the float32 file.
        int8: the int8 file, or None.
        opset: of ONNX; None for a program of ``torch.export``.
        input: shape of the input, with ``N`` for the batch.
        checks: by runtime and size of batch; those of the int8 file are reported, not judged.
        quality: by form of the network, over ``data``: accuracy, share of PyTorch's answers, largest difference.
        notes: what was left out, in words.
    """

    path: Path
    int8: Path | None
    opset: int | None
    input: tuple[str | int, ...]
    checks: list[Check]
    quality: dict[str, Quality] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return files, checks and, where there are labels, accuracies."""
        kind = f"ONNX, opset {self.opset}" if self.opset else "program of torch.export"
        shape = "×".join(map(str, self.input))
        lines = [f"{self.path}: {kind}, float32, images {shape}, {self.path.stat().st_size:,} bytes"]
        if self.int8:
            lines.append(f"{self.int8}: {kind}, int8, {self.int8.stat().st_size:,} bytes")
        names = list(dict.fromkeys(check.runtime for check in self.checks))
        by = {(c.runtime, c.batch): f"{c.difference:.1e}" for c in self.checks}
        rows = [[name, *(by[name, size] for size in BATCHES)] for name in names]
        lines += ["", table(["difference to PyTorch", *(f"batch {size}" for size in BATCHES)], rows)]
        if self.quality:
            count = next(iter(self.quality.values())).images
            rows = [[n, share(q.top1), share(q.same), f"{q.difference:.1e}"] for n, q in self.quality.items()]
            lines += ["", table([counted(count, "image"), "top-1 %", "same answer %", "difference"], rows)]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def export(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    example: Tensor | None = None,
    data: Any = None,
    quantize: Any = None,
    opset: int | None = None,
) -> ExportReport:
    """Write a network to ONNX or to a program of ``torch.export``, in evaluation mode and for batches of any size.

    The file is run beside PyTorch before it gets its name: with batches of 1, 2 and 3 images, and over ``data``, in
    ONNX Runtime and, where it is installed, in OpenVINO. If an output differs by more than 1e-4 of the largest, nothing
    is written. The model is given back as it was; one on another device is exported from a copy on the CPU.

    Args:
        model: a network in float32 that takes one batch of images ``(N, C, H, W)`` and returns tensors. A detector of
            whatwhere's with one stage is written in the form of
            :class:`whatwhere.networks.dense.DenseDetector`.
        path: ``"model.onnx"`` or ``"model.pt2"``. An older file of this name is replaced.
        example: images ``(N, C, H, W)`` of the size that the file is to take; by default those of ``data``, or else
            noise of the size that the network's config names (timm), else 224 × 224.
        data: batches to compare on, see :class:`whatwhere.graph.Batches`; with labels the report has accuracies.
        quantize: batches to calibrate with, some hundreds of images like those that will come; an int8 file is written
            as well, ``model.int8.onnx`` beside ``model.onnx``. Its differences are reported, not judged: look at its
            accuracy.
        opset: of ONNX, by default PyTorch's own choice.

    Returns:
        Files, checks and accuracies; ``print`` it for a table.

    Raises:
        WhatwhereError: another ending, no such folder, a model that is not float32 or cannot be exported, a file that
            differs.

    Example:
        >>> import tempfile, torch, whatwhere as ww
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), ww.SE(8))
        >>> report = ww.export(model, tempfile.mkdtemp() + "/model.pt2", example=torch.randn(2, 3, 16, 16))
        >>> max(check.difference for check in report.checks) <= 1e-4
        True
    """
    target = _target(path, int8=quantize is not None, opset=opset)
    root = unwrap(model)
    _refuse_types(root)
    labelled = None if data is None else Batches(data)
    calibration = None if quantize is None else Batches(quantize, "quantize")
    if calibration is not None:
        calibration.first()
    elsewhere = any(t.device.type != "cpu" for t in (*root.parameters(), *root.buffers()))
    root = copy.deepcopy(root).cpu() if elsewhere else root
    checks: list[Check] = []
    notes = []
    if is_detector(root):
        root = DenseDetector(root)
        notes.append(DENSE)
    kinds = ("cpu", *(["cuda"] if torch.cuda.is_available() else []))
    with evaluation_mode(root, freeze=True), torch.no_grad(), ExitStack() as files:
        for kind in kinds:  # the file is to compute in float32, wherever this is called
            files.enter_context(torch.autocast(kind, enabled=False))
        images = _example(root, example, labelled)
        runs: dict[str, Run] = {"PyTorch": torch_run(root)}
        program = _trace(root, images)
        file = files.enter_context(replacing(target))
        judged: dict[str, Callable[[Path], Run]]
        if target.suffix == ".pt2":
            number = None
            judged = {"torch.export": program_run}
            with file.open("wb") as stream:
                torch.export.save(program, stream)
        else:
            number = _write_onnx(program, images, file, opset)
            judged = {"ONNX Runtime": onnxruntime_run}
            if has_openvino():
                judged["OpenVINO"] = openvino_run
            else:
                notes.append("OpenVINO is not installed: not checked there")
        runs |= {name: _load(name, load, file) for name, load in judged.items()}
        checks += _check(runs, images)
        _judge(target, checks)
        int8 = None
        if calibration is not None:
            int8 = target.with_suffix(".int8.onnx")
            smaller = files.enter_context(replacing(int8))
            quantise(file, smaller, calibration)
            runs["int8"] = onnxruntime_run(smaller)
            checks += _check({"PyTorch": runs["PyTorch"], "int8": runs["int8"]}, images)
        quality = {} if labelled is None else compare(runs, labelled)
        _judge(target, [Check(name, q.images, q.difference) for name, q in quality.items() if name != "int8"])
    shape = ("N", *images.shape[1:])
    return ExportReport(target, int8, number, shape, checks, quality, notes)


def _target(path: str | os.PathLike[str], *, int8: bool, opset: int | None) -> Path:
    target = Path(path)
    if target.suffix not in (".onnx", ".pt2"):
        raise WhatwhereError(f"{target}: the name must end in .onnx (ONNX) or .pt2 (a program of torch.export)")
    if target.suffix == ".pt2" and (int8 or opset is not None):
        raise WhatwhereError(f"{target}: quantize= and opset= are for ONNX files; give a name that ends in .onnx")
    if not target.parent.is_dir():
        raise WhatwhereError(f"{target}: there is no folder {target.parent}; make it first")
    if target.suffix == ".onnx":
        require(export=("onnx", "onnxruntime", "onnxscript"))
    return target


def _refuse_types(model: nn.Module) -> None:
    kinds = {str(t.dtype) for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()} - {"torch.float32"}
    if kinds:
        raise WhatwhereError(f"the model has numbers in {', '.join(sorted(kinds))}: export model.float()")


def _example(model: nn.Module, example: Tensor | None, data: Batches | None) -> Tensor:
    """Return images that the model takes, as many as the largest batch of the checks."""
    if example is not None:
        found = [Batches(example, "example").first()]
    elif data is not None:
        found = [data.first()]
    else:
        shapes = [arguments[0].shape for arguments in probe_inputs(model)]
        found = [torch.randn(3, *shape[1:], generator=torch.Generator().manual_seed(0)) for shape in shapes]
    failed = []
    for images in found:
        batch = images.detach().float().cpu()[torch.arange(max(BATCHES)) % len(images)]
        try:
            model(batch)
        except Exception as error:
            failed.append((tuple(batch.shape), error))
        else:
            return batch
    shape, cause = failed[0]
    raise WhatwhereError(
        f"{type(model).__name__} failed on images {shape}: {type(cause).__name__}: {cause}. "
        "Give example=, images (N, C, H, W) that it takes"
    ) from cause


def _trace(model: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    sizes = ({0: torch.export.Dim("batch")},)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            program = torch.export.export(model, (images,), dynamic_shapes=sizes)
    except Exception as error:
        raise WhatwhereError(
            f"torch.export cannot take {type(model).__name__} for batches of any size: {type(error).__name__}: {error}"
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it would write paths of this machine into the file
    return program


def _write_onnx(program: torch.export.ExportedProgram, images: Tensor, file: Path, opset: int | None) -> int:
    """Write an ONNX file and return its opset."""
    try:
        made = torch.onnx.export(
            program,
            (images,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            opset_version=opset,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        assert made is not None
        made.save(str(file), external_data=False)
    except Exception as error:
        raise WhatwhereError(f"the network cannot be written to ONNX: {type(error).__name__}: {error}") from error
    got = int(made.model.opset_imports[""])
    if opset not in (None, got):
        raise WhatwhereError(
            f"opset={opset}: PyTorch writes this network in opset {got}; leave opset out, or ask for more"
        )
    return got


def _load(runtime: str, load: Callable[[Path], Run], file: Path) -> Run:
    try:
        return load(file)
    except WhatwhereError:
        raise
    except Exception as error:
        raise WhatwhereError(f"{runtime} cannot run what was written: {type(error).__name__}: {error}") from error


def _check(runs: dict[str, Run], images: Tensor) -> list[Check]:
    """Compare every form of the network to the first, with batches of every size."""
    reference, *others = runs
    found = []
    for name in others:
        for size in BATCHES:
            batch = images[:size]
            found.append(Check(name, size, difference(runs[name](batch), runs[reference](batch))))
    return found


def _judge(target: Path, checks: list[Check]) -> None:
    wrong = [check for check in checks if not check.difference <= LIMIT]
    if wrong:
        worst = max(wrong, key=lambda check: check.difference)
        raise WhatwhereError(
            f"{target} was not written: in {worst.runtime}, over {counted(worst.batch, 'image')}, its output differs "
            f"from PyTorch's by {worst.difference:.1e} of the largest; at most {LIMIT:.0e} is allowed"
        )
