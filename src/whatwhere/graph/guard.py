"""Running a model and leaving it as it was: the one guard for all code that runs somebody else's model."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


@contextlib.contextmanager
def evaluation_mode(model: nn.Module, *, freeze: bool = False) -> Iterator[None]:
    """Put ``model`` in evaluation mode inside a ``with`` block, and restore it exactly afterwards, also after an error.

    Restored: the training flag of every module, all buffers, and the state of the random number generators (the CPU's
    and those of the model's CUDA devices).

    Args:
        model: any model.
        freeze: also switch off ``requires_grad`` of all parameters and hide their gradients, and run what
            ``torch.compile`` or ``Module.compile`` compiled as plain Python; all of that is restored too.

    Example:
        >>> import torch
        >>> from whatwhere.graph import evaluation_mode
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Dropout())
        >>> with evaluation_mode(model):
        ...     model[1].training
        False
        >>> model[1].training
        True
    """
    flags = [(module, module.training) for module in model.modules()]
    buffers = [(m, name, b, b.clone()) for m in model.modules() for name, b in m._buffers.items() if b is not None]
    parameters = [(p, p.requires_grad, p.grad) for p in model.parameters()] if freeze else []
    cuda = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=cuda), eager(model) if freeze else contextlib.nullcontext():
        try:
            for module, _ in flags:
                module.training = False
            for parameter, _, _ in parameters:
                parameter.requires_grad_(False)
                parameter.grad = None
            yield
        finally:
            for module, flag in flags:
                module.training = flag
            for parameter, learns, gradient in parameters:
                parameter.requires_grad_(learns)
                parameter.grad = gradient
            for module, name, buffer, before in buffers:
                module._buffers[name] = buffer
                if buffer.device.type != "meta" and not torch.equal(buffer, before):
                    with torch.no_grad():
                        buffer.copy_(before)


@contextlib.contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Run everything that :func:`torch.compile` or ``Module.compile`` compiled in ``model`` as plain Python inside the
    block.

    Example:
        >>> import torch
        >>> from whatwhere.graph import eager
        >>> model = torch.compile(torch.nn.Conv2d(3, 8, 3))
        >>> with eager(model):
        ...     model(torch.zeros(1, 3, 9, 9)).shape
        torch.Size([1, 8, 7, 7])
    """
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
