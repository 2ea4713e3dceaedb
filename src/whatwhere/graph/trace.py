"""One recorded forward pass: which value came from which, and which module made it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .forward import unfused
from .guard import evaluation_mode
from .probe import run_on_probe
from .recorder import Recorder
from .values import Call, Trace
from .wrappers import check_model


def trace(model: nn.Module, example: Any = None, hidden: type[nn.Module] | tuple[type[nn.Module], ...] = ()) -> Trace:
    """Run ``model`` once on ``example`` in evaluation mode, without gradients, and return what happened.

    What happens inside modules of the types ``hidden`` is marked as such. The model is left as it was: training flags,
    buffers, hooks, and the state of the random number generators.

    Args:
        model: any network.
        example: a tensor or a tuple of arguments; by default see :func:`whatwhere.graph.probe_inputs`.
        hidden: module types.

    Raises:
        WhatwhereError: the model is none, or fails on the example.

    Example:
        >>> import torch
        >>> from whatwhere.graph import trace
        >>> record = trace(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()), torch.zeros(1, 3, 9, 9))
        >>> [(value.op, value.shape) for value in record.values]
        [('input', (1, 3, 9, 9)), ('convolution', (1, 8, 7, 7)), ('relu', (1, 8, 7, 7))]
        >>> [call.name for call in record.calls]
        ['0', '1', '']
    """
    check_model(model)

    def watch(arguments: tuple[Any, ...]) -> Trace:
        recorder = Recorder(Trace())
        for leaf in tree_leaves(arguments):
            if isinstance(leaf, Tensor):
                recorder.start(leaf)
        with evaluation_mode(model), unfused(model), _listening(model, recorder, hidden), torch.no_grad(), recorder:
            result = model(*arguments)
            numbers = [recorder.value(leaf) for leaf in tree_leaves(_plain(result))]
        recorder.trace.outputs = [number for number in numbers if number is not None]
        return recorder.trace

    return run_on_probe(model, example, watch)


def _plain(result: Any) -> Any:
    """Return a result as plain containers: dataclass-like outputs of other libraries become dictionaries."""
    return dict(vars(result)) if hasattr(result, "__dict__") and not isinstance(result, (Tensor, dict)) else result


@contextlib.contextmanager
def _listening(model: nn.Module, recorder: Recorder, hidden: Any) -> Iterator[None]:
    """Record the calls of every named module."""
    handles: list[Any] = []
    waiting: dict[str, list[tuple[int | None, ...]]] = {}

    def listen(name: str, module: nn.Module) -> None:
        conceals = isinstance(module, hidden)

        def before(_: nn.Module, args: Any) -> None:
            waiting.setdefault(name, []).append(tuple(recorder.value(a) for a in args if isinstance(a, Tensor)))
            recorder.hidden += conceals

        def after(_: nn.Module, __: Any, output: Any) -> None:
            recorder.hidden -= conceals
            inside = recorder.hidden > 0
            recorder.trace.calls.append(Call(name, waiting[name].pop(), recorder.value(output), inside))

        handles.append(module.register_forward_pre_hook(before))
        handles.append(module.register_forward_hook(after))

    try:
        for name, module in model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                listen(name, module)
        yield
    finally:
        for handle in handles:
            handle.remove()
