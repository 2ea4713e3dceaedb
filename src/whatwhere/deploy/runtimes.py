"""Running exported files: ONNX Runtime, OpenVINO, torch.export programs."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import need
from .quality import Run, torch_run


def onnxruntime_run(file: Path) -> Run:
    """Return an ONNX file as ONNX Runtime runs it on the CPU."""
    runtime = need("onnxruntime", extra="export")
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(output) for output in session.run(None, {name: images.contiguous().numpy()})]

    return run


def has_openvino() -> bool:
    """Whether OpenVINO is installed, which no extra asks for."""
    return importlib.util.find_spec("openvino") is not None


def openvino_run(file: Path) -> Run:
    """Return an ONNX file as OpenVINO runs it on the CPU, in float32 also where the processor has bfloat16."""
    openvino: Any = importlib.import_module("openvino")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(file.read_bytes()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: Tensor) -> list[Tensor]:
        results = compiled([images.contiguous().numpy()])
        return [torch.from_numpy(results[output].copy()) for output in compiled.outputs]

    return run


def program_run(file: Path) -> Run:
    """Return a file of ``torch.export`` as PyTorch runs it."""
    with file.open("rb") as stream:
        return torch_run(torch.export.load(stream).module())
