"""Compares one attention with its official code: outputs, all gradients, running statistics."""

import copy
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import whatwhere as ww

from .case import Case

IMAGES = 8
"""A batch normalisation over fewer images of one value a channel is close to a sign function."""
MEASURES = ("output", "input gradient", "parameter gradients", "running statistics")


def compare(case: Case, sources: Sequence[str], dtype: torch.dtype) -> dict[str, float]:
    """Return the largest differences by mode and measure, relative to the largest value that is compared.

    Both have the same random weights and statistics. In both modes the loss is the sum of the output times fixed random
    numbers. Their gradients and statistics are brought under our names by the same key map as their weights.

    Args:
        case: what is compared.
        sources: the texts of ``case.files``.
        dtype: of both.
    """
    torch.manual_seed(0)
    theirs = _randomise(official(case, sources)).to(dtype)
    ours = ww.create(case.name, case.channels, **case.options).to(dtype)
    case.load(ours, theirs.state_dict())
    found = {}
    x = _images(case).to(dtype)
    with torch.no_grad():  # a stride makes the output smaller than the input
        weights = torch.randn_like(case.apply(theirs.eval(), x))
    for mode in ("evaluation", "training"):
        first = _run(theirs.train(mode == "training"), lambda m, u: case.apply(m, u), x, weights)
        second = _run(ours.train(mode == "training"), lambda m, u: m(u), x, weights)
        gradients = copy.deepcopy(ours)
        case.load(gradients, {**theirs.state_dict(), **_gradients(theirs)})
        their_gradients = dict(gradients.named_parameters())
        statistics = copy.deepcopy(ours)
        case.load(statistics, theirs.state_dict())
        found[f"{mode}: output"] = _difference(first[0], second[0])
        found[f"{mode}: input gradient"] = _difference(first[1], second[1])
        largest = max((float(g.abs().max()) for g in _gradients(theirs).values()), default=0.0)
        found[f"{mode}: parameter gradients"] = max(
            (_difference(their_gradients[name].detach(), g, largest) for name, g in _gradients(ours).items()),
            default=0.0,
        )
        found[f"{mode}: running statistics"] = max(
            (_difference(dict(statistics.named_buffers())[name], b) for name, b in ours.named_buffers()), default=0.0
        )
    return found


def official(case: Case, sources: Sequence[str]) -> nn.Module:
    """Return their module with its own first weights; ``sources`` as for :func:`compare`."""
    return case.build(_module(case, sources))


def _run(
    module: nn.Module, forward: Callable[[Any, Tensor], Tensor], x: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    module.zero_grad()
    x = x.clone().requires_grad_()
    y = forward(module, x)
    (y * weights).sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


def _gradients(module: nn.Module) -> dict[str, Tensor]:
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in module.named_parameters()}


def _images(case: Case) -> Tensor:
    """Return images of different brightness and contrast.

    Of images that are alike, a batch normalisation of squeezed maps would enlarge the rounding.
    """
    shape = (IMAGES, case.channels, 1, 1)
    return torch.randn(*shape[:2], *case.size) * (0.5 + torch.rand(shape)) + 0.6 * torch.randn(shape)


def _difference(want: Tensor, got: Tensor, beside: float = 0.0) -> float:
    """Return the largest difference relative to the largest value.

    Where both are nothing but rounding of ``beside``, the largest gradient of all parameters, the difference is
    relative to that: so it is with the gradient of a bias before a batch normalisation in training, which is 0.
    """
    if not want.numel():
        return 0.0
    rounding = 1000 * torch.finfo(want.dtype).eps * beside if want.is_floating_point() else 0.0
    largest = float(want.abs().max())
    scale = beside if max(largest, float(got.abs().max())) < rounding else max(largest, 1e-3)
    return float((want - got).abs().max()) / scale


def _randomise(module: nn.Module) -> nn.Module:
    """Draw every parameter and running statistic at random, also those that start at 0."""
    with torch.no_grad():
        for parameter in module.parameters():
            inputs = max(parameter.numel() // max(len(parameter), 1), 9) if parameter.dim() else 9
            parameter.copy_(torch.randn(parameter.shape) / inputs**0.5 + (0.5 if parameter.dim() == 1 else 0))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.3 * torch.randn(buffer.shape))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape))
    return module


def _module(case: Case, sources: Sequence[str]) -> ModuleType:
    """Return their file as a module: the last of the files, which are executed as modules of one package."""
    if case.installed:
        return importlib.import_module(case.path)
    package = "official"
    modules = {f"{package}.{PurePosixPath(path).stem}": path for path in case.files}
    made = {name: ModuleType(name) for name in modules}
    with _importable({package: ModuleType(package), **made, **case.imports}):
        for (name, path), source in zip(modules.items(), sources, strict=True):
            made[name].__package__ = package
            text = _edited(case, source) if path == case.path else source
            exec(compile(text, f"{case.repository}/{path}", "exec"), made[name].__dict__)
    return made[name]


def _edited(case: Case, source: str) -> str:
    for text, instead in case.edits.items():
        if text not in source:
            raise ValueError(f"{case.repository}, {case.path}: there is no {text!r} to edit")
        source = source.replace(text, instead)
    return source


@contextmanager
def _importable(modules: Mapping[str, ModuleType]) -> Iterator[None]:
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
