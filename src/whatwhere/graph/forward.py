"""Modules that carry a forward in their own ``__dict__``: a pinned one, or one that runs several modules as one op.

``torch.compile`` reuses code that it compiled for one module for every other module of the same class, and does not
check whether that one has hooks. It does check for a ``forward`` in the module's own ``__dict__``. So a module with an
attention hook carries its class's forward there (:func:`pin_forward`).
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch import nn

F = TypeVar("F", bound=Callable[..., Any])
_FUSED: set[Callable[..., Any]] = set()


def class_forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Run the forward of the module's class."""
    return type(module).forward(module, *args, **kwargs)


def pin_forward(module: Any) -> None:
    """Put the forward of the module's class into its own ``__dict__``, where ``torch.compile`` sees it."""
    if "forward" not in module.__dict__:
        module.forward = functools.partial(class_forward, module)


def unpin_forward(module: nn.Module) -> None:
    """Undo :func:`pin_forward`; a forward that somebody else put there stays."""
    forward = module.__dict__.get("forward")
    if isinstance(forward, functools.partial) and forward.func is class_forward:
        del module.__dict__["forward"]


def has_foreign_forward(module: nn.Module) -> bool:
    """Whether somebody else has given a module another forward than its class's."""
    forward = module.__dict__.get("forward")
    return forward is not None and getattr(forward, "func", None) is not class_forward and fused_with(module) is None


def fused_forward(function: F) -> F:
    """Decorator for a function ``(module, ...)`` that :func:`fuse_forward` may put in place of a module's forward."""
    _FUSED.add(function)
    return function


def fuse_forward(module: Any, function: Callable[..., Any], *args: Any) -> None:
    """Let a module run ``function(module, *args, ...)`` in place of its forward; ``deepcopy`` and ``pickle``
    copy it.
    """
    module.forward = functools.partial(function, module, *args)


def fused_with(module: nn.Module) -> Callable[..., Any] | None:
    """Return which :func:`fused_forward` a module runs in place of its own forward, or None."""
    forward = module.__dict__.get("forward")
    return forward.func if isinstance(forward, functools.partial) and forward.func in _FUSED else None


@contextlib.contextmanager
def unfused(model: nn.Module) -> Iterator[None]:
    """Let every module run its own forward inside a ``with`` block."""
    forwards = [(module, module.__dict__.pop("forward")) for module in model.modules() if fused_with(module)]
    try:
        yield
    finally:
        for module, forward in forwards:
            module.__dict__["forward"] = forward
