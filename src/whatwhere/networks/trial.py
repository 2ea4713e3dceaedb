"""A trial run that leaves no trace: the input for it, and the model given back as it was."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from ..errors import WhatwhereError

T = TypeVar("T")


def trial_arguments(model: nn.Module, example: Any = None) -> list[tuple[Any, ...]]:
    """Return the arguments to try for a trial run, the likeliest first.

    They are ``example`` if given, otherwise one picture on the model's device and in its dtype: of the size that the model's own
    config names, else 224 × 224; with the channels of the first convolution, or those of the config where the network
    rearranges its input before that convolution.
    """
    if example is not None:
        return [tuple(example) if isinstance(example, (tuple, list)) else (example,)]
    if any(is_lazy(p) for p in model.parameters()):
        raise WhatwhereError("the model has lazy parameters without a shape: run it once, or pass example=")
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return [(_picture(shape, like),) for shape in _input_shapes(model)]


def attempt(model: nn.Module, example: Any, run: Callable[[tuple[Any, ...]], T]) -> T:
    """Return what ``run`` makes of the first arguments of :func:`trial_arguments` with which it does not fail.

    Raises:
        WhatwhereError: it fails with all of them.
    """
    failed: list[tuple[str, Exception]] = []
    for arguments in trial_arguments(model, example):
        try:
            return run(arguments)
        except Exception as error:
            shapes = [tuple(leaf.shape) for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]
            failed.append((", ".join(map(str, shapes)), error))
    shape, cause = failed[0]
    raise WhatwhereError(
        f"{type(model).__name__} failed on a trial input of shape {shape}: {type(cause).__name__}: {cause}. "
        "Pass example=, a tensor (or a tuple of arguments) that the network accepts"
    ) from cause


def _picture(shape: tuple[int, int, int], like: torch.Tensor) -> torch.Tensor:
    if like.device.type == "meta":
        return torch.empty(1, *shape, device="meta", dtype=like.dtype)
    picture = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    return picture.to(device=like.device, dtype=like.dtype)


def _input_shapes(model: nn.Module) -> list[tuple[int, int, int]]:
    channels, height, width = 3, 224, 224
    for attribute in ("pretrained_cfg", "default_cfg"):
        config = getattr(model, attribute, None)
        size = config.get("input_size") if isinstance(config, dict) else getattr(config, "input_size", None)
        if size is not None and len(size) == 3:
            channels, height, width = (int(n) for n in size)
            break
    first = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), channels)
    return [(count, height, width) for count in dict.fromkeys((first, channels))]


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode; give back its flags and buffers, and the random state, as they were."""
    flags = [(module, module.training) for module in model.modules()]
    buffers = [(m, name, b, b.clone()) for m in model.modules() for name, b in m._buffers.items() if b is not None]
    cuda = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=cuda):
        try:
            for module, _ in flags:
                module.training = False
            yield
        finally:
            for module, flag in flags:
                module.training = flag
            for module, name, buffer, before in buffers:
                module._buffers[name] = buffer
                if buffer.device.type != "meta" and not torch.equal(buffer, before):
                    buffer.copy_(before)


def difference(got: Sequence[Tensor], want: Sequence[Tensor]) -> float:
    """Return the largest difference between outputs, as a share of the largest value that each should have.

    Infinity where their number or shapes differ, or where one has numbers that are not finite.
    """
    if [g.shape for g in got] != [w.shape for w in want]:
        return math.inf
    largest = 0.0
    for one, other in zip(got, want, strict=True):
        if other.numel() == 0:
            continue
        scale = float(other.double().abs().max()) or 1.0
        gap = float((one.double() - other.double()).abs().max())
        if not math.isfinite(gap) or not math.isfinite(scale):
            return math.inf
        largest = max(largest, gap / scale)
    return largest
