"""Looking at a model without leaving a trace in it."""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

from ..errors import WhatwhereError


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model under :func:`torch.compile` and ``DistributedDataParallel``.

    Raises:
        WhatwhereError: not a module, or a ``DataParallel``, whose copies of the model cannot be watched.
    """
    if not isinstance(model, nn.Module):
        raise WhatwhereError(f"a torch.nn.Module is needed, got {type(model).__name__}")
    if isinstance(model, nn.DataParallel):
        raise WhatwhereError("DataParallel runs short-lived copies of the model: give its .module instead")
    if "_orig_mod" in model._modules:
        return unwrap(model.get_submodule("_orig_mod"))
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return unwrap(model.module)
    return model


@contextlib.contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Run everything that :func:`torch.compile` or ``Module.compile`` compiled in ``model`` as plain Python inside the block."""
    undo: list[tuple[nn.Module, str, Any]] = []
    try:
        for module in list(model.modules()):
            if "_orig_mod" in module._modules:
                undo.append((module, "forward", vars(module)["forward"]))
                vars(module)["forward"] = module.get_submodule("_orig_mod")
            if module._compiled_call_impl is not None:
                undo.append((module, "_compiled_call_impl", module._compiled_call_impl))
                vars(module)["_compiled_call_impl"] = None
        yield
    finally:
        for module, name, value in reversed(undo):
            vars(module)[name] = value


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put ``model`` in evaluation mode with frozen parameters; afterwards its modes, flags and gradients are as before."""
    modes = [(module, module.training) for module in model.modules()]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        for module, _ in modes:
            module.training = False
        for parameter, _, _ in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
        with eager(model):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag, grad in parameters:
            parameter.requires_grad_(flag)
            parameter.grad = grad
