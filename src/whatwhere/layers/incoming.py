"""What a layer is given is checked before it computes: a floating map ``(N, C, H, W)`` with its number of channels."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy

from ..errors import WhatwhereError


def checking(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method whose first argument is a map so that anything else raises, with what to do about it.

    A value that stands for a map while ``torch.fx`` traces passes.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.ECA(16)(torch.randn(2, 8, 4, 4))
        Traceback (most recent call last):
        ...
        whatwhere.errors.WhatwhereError: ECA takes maps (N, 16, H, W), got float32 (2, 8, 4, 4): make it for 8 ...
    """
    names = list(inspect.signature(method).parameters)

    @functools.wraps(method)
    def checked(self: Any, x: Any) -> Any:
        # the shape is read once: this is a third of a microsecond
        if not (isinstance(x, Tensor) and len(shape := x.shape) == 4 and shape[1] == self.channels) or (
            not x.is_floating_point()
        ):
            _look_closer(self, x)
        return method(self, x)

    @functools.wraps(method)
    def checked_with_more(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = [*args, *(kwargs[name] for name in names[1:2] if name in kwargs)]
        for x in given[:1]:
            _look_closer(self, x)
        return method(self, *args, **kwargs)

    return checked if names == ["self", "x"] else checked_with_more


def _look_closer(layer: Any, x: Any) -> None:
    """Raise with what is wrong about a map, if it is none."""
    channels, kind = layer.channels, type(layer).__name__
    if isinstance(x, Proxy):
        return
    wanted = f"{kind} takes maps (N, {channels}, H, W)"
    if not isinstance(x, Tensor):
        came = f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
        advice = "take torch.as_tensor(...) of it" if hasattr(x, "__array__") else "give it one tensor"
        raise WhatwhereError(f"{wanted} that are floating-point tensors, got {came}: {advice}")
    came = f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
    if x.dim() == 3 and x.shape[0] == channels:
        advice = "x[None] makes a batch of one map"
    elif x.dim() != 4:
        advice = f"{x.dim()} axes, where 4 are needed: batch, channels, height, width"
    elif x.shape[1] != channels and x.shape[3] == channels:
        advice = "the channels come last there: give it x.permute(0, 3, 1, 2)"
    elif x.shape[1] != channels:
        advice = f"make it for {x.shape[1]} channels, {kind}({x.shape[1]}), or give it maps of {channels}"
    elif x.is_floating_point():
        return
    else:
        advice = "the numbers must be floating-point ones" + ("" if x.is_complex() else ", such as x.float()")
    raise WhatwhereError(f"{wanted}, got {came}: {advice}")


def takes_maps(cls: type) -> None:
    """Let ``forward`` and ``gates`` check their map, where this class itself defines them."""
    for name in ("forward", "gates"):
        method = cls.__dict__.get(name)
        if inspect.isfunction(method) and method is not torch.nn.Module.forward:
            setattr(cls, name, checking(method))
