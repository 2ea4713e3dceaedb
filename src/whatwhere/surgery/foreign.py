"""Finding an attention in anybody's code: by the names and shapes of its tensors, then by what it computes."""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import ops
from ..errors import WhatwhereError
from ..graph.difference import difference
from ..layers import Attention, Entry, KeyMap, create
from ..layers.gate import GATES
from ..layers.mlp import ACTIVATIONS

_ROUNDING = 1e-9  # of the largest value, in float64
_SIZES = ((8, 8), (13, 9))
_OPEN: dict[str, tuple[Any, ...]] = {"gate": tuple(GATES), "activation": tuple(ACTIVATIONS), "stride": (1, 2)}
"""Options that are tried where neither the shapes nor the key map tells them."""


def candidates(model: nn.Module, kind: Entry) -> dict[str, tuple[KeyMap, ...]]:
    """Return the modules of other code whose tensors all have names that a key map of an attention knows.

    Modules without tensors have no names, so attention without parameters is never found.
    """
    found: dict[str, tuple[KeyMap, ...]] = {}
    inner = [name for name, module in model.named_modules() if isinstance(module, Attention)]
    for name, module in model.named_modules():
        if not name or any(name == outer or name.startswith(f"{outer}.") for outer in (*inner, *found)):
            continue
        keys = list(module.state_dict())
        maps = tuple(one for one in kind.key_maps if keys and all(one.match_bare(key) for key in keys))
        if maps:
            found[name] = maps
    return found


def recognise(
    kind: Entry, module: nn.Module, maps: tuple[KeyMap, ...], channels: int | None
) -> tuple[Attention | None, str]:
    """Return whatwhere's attention that computes what a module of other code computes, with the module's weights.

    Its options are those that the names and shapes of the tensors tell; gate function, activation and stride are tried
    where they tell nothing. Both are run in float64, in evaluation mode, on random maps of two sizes, with random
    weights and with the module's own. Only where all outputs are equal to rounding is it that attention. A module that
    takes square maps only is compared on those.

    Args:
        kind: which attention.
        module: the module; nothing of it is changed.
        maps: the key maps that know its names, see :func:`candidates`.
        channels: C of the maps that it takes; None where it has not run.

    Returns:
        The attention, on the device and in the dtype of the module; or None and why it is another, an empty string
        where the tensors do not fit at all.
    """
    word = type(module).__name__
    state = module.state_dict()
    twins: list[nn.Module] = []
    nearest, reason = float("inf"), ""
    for key_map in maps:
        shapes = _shapes(key_map, state)
        if problem := key_map.problem(shapes):
            reason = reason or f"{word}: {problem}"
            continue
        for options in _trials(kind, key_map, shapes):
            if channels is None:
                return None, f"{word} did not run on the probe input, so its channels are not known"
            try:
                ours = create(kind.name, channels, **options, dtype=torch.float64).eval()
                ours.load_official(state)
            except (WhatwhereError, TypeError, ValueError, RuntimeError):
                continue
            if has_hooks(module):
                return None, f"{word} has hooks, which would be lost"
            try:
                twins = twins or [_twin(module, draw=True), _twin(module, draw=False)]
                gap = max(_gap(twin, ours, channels) for twin in twins)
            except Exception as error:  # a foreign module may raise anything
                return None, f"{word} cannot be compared with {kind.name!r}: {type(error).__name__}: {error}"
            if gap <= _ROUNDING:
                like = next((p for p in module.parameters()), torch.empty(0))
                attention = create(kind.name, channels, **options, device=like.device, dtype=like.dtype)
                return attention.load_official(state), ""
            if gap < nearest or not reason:
                nearest, reason = gap, _apart(word, kind, gap)
    return None, reason


def has_hooks(module: nn.Module) -> bool:
    """Whether a module or a part of it has hooks, which another module in its place would not have."""
    return any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        for part in module.modules()
    )


def _apart(word: str, kind: Entry, gap: float) -> str:
    if gap == float("inf"):
        return f"{word} has the tensors of {kind.name!r}, but its output has another shape or is not finite"
    return f"{word} has the tensors of {kind.name!r}, but its output is {gap:.1e} of the largest value away from its"


def _shapes(key_map: KeyMap, state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a module's tensors by their names here."""
    shapes = {}
    for key, tensor in state.items():
        match = key_map.match_bare(key)
        assert match is not None
        name = key_map.rename(match)
        shapes[name] = tuple(key_map.convert(name, tensor).shape)
    return shapes


def _trials(kind: Entry, key_map: KeyMap, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[dict[str, Any]]:
    """Return the options to try: what is told, with every choice of what is not."""
    told = kind.options_told(key_map, shapes)
    free = [option for option in _OPEN if option in kind.options and option not in key_map.options]
    for values in itertools.product(*(_OPEN[option] for option in free)):
        yield {**told, **dict(zip(free, values, strict=True))}


def _gap(twin: nn.Module, ours: Attention, channels: int) -> float:
    """Return how far the outputs of two modules are apart, with the weights of the first in both."""
    ours.load_official(twin.state_dict())
    largest = 0.0
    for height, width in _SIZES:
        x = _maps(channels, height, width)
        got = _run(twin, x, may_fail=height != width)
        if got is None:
            continue
        if not isinstance(got, Tensor):
            raise TypeError(f"it returns {type(got).__name__}, not a map")
        with torch.no_grad(), ops.backend("reference"):
            largest = max(largest, difference([ours(x.clone())], [got]))
    return largest


def _run(module: Callable[[Tensor], Any], x: Tensor, *, may_fail: bool) -> Any:
    try:
        with torch.no_grad():
            return module(x.clone())  # it may work in place
    except Exception:
        if not may_fail:
            raise
        return None


def _twin(module: nn.Module, *, draw: bool) -> nn.Module:
    """Return a copy in float64 on the CPU, in evaluation mode, with random weights and statistics if asked for.

    Random ones, because a weight of 0, as at the start, hides what comes before it.
    """
    twin = copy.deepcopy(module).to("cpu", torch.float64).eval()
    if not draw:
        return twin
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in twin.parameters():
            scale = (parameter[0].numel() if parameter.ndim > 1 else 1) ** -0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for name, buffer in twin.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator, dtype=torch.float64))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator, dtype=torch.float64))
    return twin


def _maps(channels: int, height: int, width: int) -> Tensor:
    """Return maps of small to large numbers, whose channels differ in their means."""
    generator = torch.Generator().manual_seed(1)
    scales = torch.logspace(-1, 1, 6, dtype=torch.float64)[:, None, None, None]
    means = torch.randn(6, channels, 1, 1, generator=generator, dtype=torch.float64)
    return scales * (means + torch.randn(6, channels, height, width, generator=generator, dtype=torch.float64))
