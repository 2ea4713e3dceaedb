"""What ghost convolutions cost and change, beside the convolutions whose place they take."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..cost.counts import count_multiply_adds, count_parameters
from ..cost.stopwatch import Timing, time_in_turn
from ..graph.difference import difference
from ..graph.guard import evaluation_mode
from ..graph.probe import probe_inputs
from .ghost_fit import Fitted
from .ghost_report import FittedTo, GhostifyReport, GhostSite


def measure(
    model: nn.Module,
    new: nn.Module,
    names: Sequence[str],
    fitted: Mapping[str, Fitted],
    left: dict[str, str],
    fitted_to: FittedTo,
    example: Any,
    seconds: float,
) -> GhostifyReport:
    """Run both networks on the example and count, compare and time what was replaced."""
    arguments = probe_inputs(model, example)[0]
    before, inputs, old_maps = _watch(model, names, arguments)
    after, _, new_maps = _watch(new, names, arguments)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    sites = []
    for name in names:
        conv, ghost = model.get_submodule(name), fitted[name].ghost
        assert isinstance(conv, nn.Conv2d)
        shape = inputs[name]
        cost = (shape[1], shape[2], shape[3])
        times: tuple[Timing, Timing] | None = None
        if seconds > 0:
            x = torch.randn(shape, device=conv.weight.device, dtype=conv.weight.dtype)
            with torch.no_grad():
                timed = time_in_turn({"old": _call(conv, x), "new": _call(ghost, x)}, device, seconds / 2)
            times = timed["old"], timed["new"]
        sites.append(
            GhostSite(
                name,
                conv.in_channels,
                conv.out_channels,
                (conv.kernel_size[0], conv.kernel_size[1]),
                fitted[name].unexplained,
                _relative(new_maps[name], old_maps[name]),
                (count_parameters(conv), count_parameters(ghost)),
                (count_multiply_adds(conv, cost), count_multiply_adds(ghost, cost)),
                times,
                shape[0],
            )
        )
    whole = None
    if seconds > 0:
        with torch.no_grad():
            timed = time_in_turn({"old": _call(model, *arguments), "new": _call(new, *arguments)}, device, seconds * 4)
        whole = timed["old"], timed["new"]
    return GhostifyReport(
        sites,
        left,
        fitted_to,
        (count_parameters(model), count_parameters(new)),
        difference(after, before),
        whole,
    )


def _call(module: nn.Module, *arguments: Any) -> Callable[[], Any]:
    return lambda: module(*arguments)


def _relative(got: Tensor, want: Tensor) -> float:
    """Return the Euclidean distance of two maps as a share of the length of the second."""
    scale = float(want.double().norm()) or 1.0
    return float((got.double() - want.double()).norm()) / scale


def _watch(
    model: nn.Module, names: Sequence[str], arguments: tuple[Any, ...]
) -> tuple[list[Tensor], dict[str, tuple[int, ...]], dict[str, Tensor]]:
    """Run a network; return its outputs, the shapes that go into some modules, and what comes out of them."""
    shapes: dict[str, tuple[int, ...]] = {}
    maps: dict[str, Tensor] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            shapes[name], maps[name] = tuple(args[0].shape), output.detach()

        return hook

    handles = [model.get_submodule(name).register_forward_hook(note(name)) for name in names]
    try:
        with evaluation_mode(model), torch.no_grad():
            result = model(*arguments)
    finally:
        for handle in handles:
            handle.remove()
    leaves = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return leaves, shapes, maps
