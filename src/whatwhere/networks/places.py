"""Finding the places for attention in a network: by watching it run, not by its name."""

import fnmatch
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from ..errors import WhatwhereError, closest
from ..layers import Attention
from .residual import Add, residual_adds
from .stages import stage_ends
from .trace import trace
from .values import Call, Trace

Side = Literal["output", "input"]
Kind = Literal["residual", "stage"]
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # a child added to these would be run
_POINTWISE = {"alias", "clone", "detach", "div", "mul", "native_dropout", "_to_copy", "view", "_unsafe_view", "permute"}
_POINTWISE |= {"relu", "hardtanh", "silu", "gelu", "hardswish", "leaky_relu", "elu", "sigmoid", "tanh", "mish"}


@dataclass(frozen=True)
class Site:
    """A place where attention can go.

    Attributes:
        place: name of the module, as in ``model.get_submodule(place)``.
        kind: ``"residual"`` (end of a residual branch) or ``"stage"`` (last map of one resolution).
        channels: C of the map there.
        size: (H, W) of the map there, on the trial input.
        why: why there, in words.
        side: ``"output"``: attention is applied to what the module returns; ``"input"``: to what goes into it.
    """

    place: str
    kind: Kind
    channels: int
    size: tuple[int, int]
    why: str
    side: Side = "output"
    device: torch.device = field(default=torch.device("cpu"), repr=False, compare=False)
    dtype: torch.dtype = field(default=torch.float32, repr=False, compare=False)


def sites(model: nn.Module, example: Any = None) -> list[Site]:
    """Find the places for attention in a convolutional network.

    The model runs once, in evaluation mode and without gradients, and is left exactly as it was. The places are, as in the papers,
    the last layer of every residual branch, before the add; in networks without residual adds the end of each stage, the last map
    before the resolution changes.

    Args:
        model: any network whose feature maps are ``(N, C, H, W)``.
        example: a tensor (or tuple of arguments) to run it on; by default one picture of the size that the model's
            config names (timm), else 224 × 224.

    Returns:
        The places in order of execution.

    Raises:
        WhatwhereError: the model does not run on the example, or has no such place.

    Example:
        >>> import torchvision, whatwhere as ww
        >>> ww.sites(torchvision.models.resnet18())[0].place
        'layer1.0.bn2'
    """
    finder = _Finder(model, trace(model, example, hidden=Attention))
    found = finder.residual_sites()
    return found or finder.stage_sites()


def select(found: Sequence[Site], at: str | Sequence[str] | None) -> list[Site]:
    """Return the sites whose place matches a glob such as ``"layer4.*"``, or one of several.

    Raises:
        WhatwhereError: a pattern matches no place; the message lists them all.
    """
    if at is None:
        return list(found)
    patterns = [at] if isinstance(at, str) else list(at)
    places = [site.place for site in found]
    for pattern in patterns:
        if not fnmatch.filter(places, pattern):
            raise WhatwhereError(
                f"no place matches at={pattern!r}{closest(pattern, places)}. The places are: {', '.join(places)}"
            )
    return [site for site in found if any(fnmatch.fnmatchcase(site.place, pattern) for pattern in patterns)]


class _Finder:
    """Goes from values of a trace back to modules at which attention can be hung up."""

    def __init__(self, model: nn.Module, record: Trace) -> None:
        self.model = model
        self.trace = record
        self.modules = dict(model.named_modules())
        self.times = record.times()
        self.producers: dict[int, list[Call]] = {}
        self.passers: dict[int, list[Call]] = {}
        for call in record.calls:
            if call.output is not None and call.produces:
                self.producers.setdefault(call.output, []).append(call)
            elif call.output is not None and call.passes_through:
                self.passers.setdefault(call.output, []).append(call)

    def residual_sites(self) -> list[Site]:
        """Return the last layer of each residual branch."""
        adds = residual_adds(self.trace)
        found: dict[str, Site] = {}
        missed = []
        for add in adds:
            place = self.branch_end(add)
            if place is None:
                missed.append(add)
                continue
            name, side, value = place
            where = f"before the add with {self.origin(add.shortcut)}"
            words = "last layer of a residual branch" if side == "output" else "end of a residual branch, on the way in"
            found.setdefault(name, self.site(name, "residual", value, f"{words}, {where}", side))
        if missed and found:
            warnings.warn(
                f"{len(missed)} of {len(adds)} residual adds of {type(self.model).__name__} have no module of their own before "
                f"them (made by functions, or by modules that run several times), e.g. the add with {self.origin(missed[0].shortcut)}; "
                "attention cannot go there",
                stacklevel=4,
            )
        return list(found.values())

    def stage_sites(self) -> list[Site]:
        """Return the end of each stage."""
        ends = stage_ends(self.trace, lambda value: self.producer(value) is not None)
        found: dict[str, Site] = {}
        for end in ends:
            name = self.producer(end)
            assert name is not None
            height, width = self.trace.values[end].shape[2:]
            found[name] = self.site(name, "stage", end, f"last layer of the stage at {height} × {width}", "output")
        if not found:
            convolutions = sum(value.is_convolution for value in self.trace.values)
            raise WhatwhereError(
                f"no place for attention in {type(self.model).__name__}: its forward pass had {convolutions} convolutions and "
                f"{len(residual_adds(self.trace))} residual adds of (N, C, H, W) maps, and no stretch of one resolution with two "
                "convolutions that ends in a module called exactly once. Put attention into it by hand with whatwhere.create"
            )
        return list(found.values())

    def branch_end(self, add: Add) -> tuple[str, Side, int] | None:
        """Return module, side and value for the end of a residual branch: walk back from the add to the first module."""
        value = add.branch
        while (add.own >> value) & 1:
            if not self.trace.values[value].is_map:
                return None
            name = self.producer(value)
            if name is not None:
                return name, "output", value
            through = [call.name for call in self.passers.get(value, []) if self.usable(call.name)]
            if through:
                return through[-1], "input", value
            before = self.step_back(value)
            if before is None:
                return None
            value = before
        return None

    def producer(self, value: int) -> str | None:
        """Return the innermost usable module that made ``value``."""
        return next((call.name for call in self.producers.get(value, []) if self.usable(call.name)), None)

    def step_back(self, value: int) -> int | None:
        """Return what ``value`` was made from if one pointwise function, or an attention, made it."""
        for call in self.producers.get(value, []):
            if isinstance(self.modules[call.name], Attention):
                return call.inputs[0]
        here = self.trace.values[value]
        same = [parent for parent in here.parents if self.trace.values[parent].shape == here.shape]
        return same[0] if here.op in _POINTWISE and len(same) == 1 else None

    def usable(self, name: str) -> bool:
        """Whether attention can become a child of this module and be applied at its every call."""
        module = self.modules[name]
        if name == "" or self.times[name] != 1 or isinstance(module, (*_CONTAINERS, Attention)):
            return False
        parts = name.split(".")
        above = (self.modules.get(".".join(parts[:depth])) for depth in range(1, len(parts)))
        if any(isinstance(parent, Attention) for parent in above):
            return False
        return isinstance(getattr(module, "attention", None), Attention) or not hasattr(module, "attention")

    def origin(self, value: int) -> str:
        """Say in words where a value came from."""
        names = [call.name for call in self.producers.get(value, []) if call.name]
        return names[-1] if names else "what came in" if self.trace.values[value].op == "input" else "the shortcut"

    def site(self, name: str, kind: Kind, value: int, why: str, side: Side) -> Site:
        """Describe a place."""
        made = self.trace.values[value]
        size = (made.shape[2], made.shape[3])
        return Site(name, kind, made.shape[1], size, why, side, made.device, made.dtype)
