"""The input for a probe run: which arguments a model can be run on."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from ..errors import WhatwhereError

T = TypeVar("T")


def probe_inputs(model: nn.Module, example: Any = None) -> list[tuple[Any, ...]]:
    """Return the arguments to try for a probe run, the likeliest first.

    They are ``example`` if given, otherwise one image on the model's device and in its dtype: of the size that the
    model's own config names, else 224 × 224; with the channels of the first convolution, or those of the config where
    the network rearranges its input before that convolution.

    Example:
        >>> import torch
        >>> from whatwhere.graph import probe_inputs
        >>> [arguments[0].shape for arguments in probe_inputs(torch.nn.Conv2d(4, 8, 3))]
        [torch.Size([1, 4, 224, 224]), torch.Size([1, 3, 224, 224])]
    """
    if example is not None:
        return [tuple(example) if isinstance(example, (tuple, list)) else (example,)]
    if any(is_lazy(p) for p in model.parameters()):
        raise WhatwhereError("the model has lazy parameters without a shape: run it once, or pass example=")
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return [(_noise(shape, like),) for shape in _input_shapes(model)]


def run_on_probe(model: nn.Module, example: Any, run: Callable[[tuple[Any, ...]], T]) -> T:
    """Call ``run`` with the arguments of :func:`probe_inputs`, one after the other, until it does not fail; return its
    result.

    Raises:
        WhatwhereError: it fails with all of them.

    Example:
        >>> import torch
        >>> from whatwhere.graph import run_on_probe
        >>> model = torch.nn.Conv2d(3, 8, 3)
        >>> run_on_probe(model, torch.zeros(1, 3, 9, 9), lambda arguments: model(*arguments).shape)
        torch.Size([1, 8, 7, 7])
    """
    failed: list[tuple[str, Exception]] = []
    for arguments in probe_inputs(model, example):
        try:
            return run(arguments)
        except Exception as error:
            shapes = [tuple(leaf.shape) for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]
            failed.append((", ".join(map(str, shapes)), error))
    shape, cause = failed[0]
    raise WhatwhereError(
        f"{type(model).__name__} failed on a probe input of shape {shape}: {type(cause).__name__}: {cause}. "
        "Pass example=, a tensor (or a tuple of arguments) that the network accepts"
    ) from cause


def _noise(shape: tuple[int, int, int], like: torch.Tensor) -> torch.Tensor:
    if like.device.type == "meta":
        return torch.empty(1, *shape, device="meta", dtype=like.dtype)
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    return image.to(device=like.device, dtype=like.dtype)


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
