"""Models inside ``torch.compile``, ``DistributedDataParallel`` and the like."""

from torch import nn

from ..errors import WhatwhereError

_INNER = {"DistributedDataParallel": "module", "DataParallel": "module", "OptimizedModule": "_orig_mod"}
_SHARDED = {"FullyShardedDataParallel", "FSDPModule"}


def unwrap(model: nn.Module, *, replicas: bool = False) -> nn.Module:
    """Return the model inside ``torch.compile`` and ``DistributedDataParallel``.

    Args:
        model: a model, wrapped or not.
        replicas: take a ``DataParallel`` too. It runs short-lived copies of its module, which cannot be recorded, but
            its module holds the weights.

    Raises:
        WhatwhereError: not a module; a ``DataParallel`` without ``replicas``; a model that is sharded, so that no
            process has its whole tensors.

    Example:
        >>> import torch
        >>> from whatwhere.graph import unwrap
        >>> model = torch.nn.Conv2d(3, 8, 3)
        >>> unwrap(torch.compile(model)) is model
        True
    """
    if not isinstance(model, nn.Module):
        raise WhatwhereError(f"a torch.nn.Module is needed, got {type(model).__name__}")
    while (kind := type(model).__name__) in _INNER:
        if kind == "DataParallel" and not replicas:
            raise WhatwhereError("DataParallel runs short-lived copies of the model: give its .module instead")
        model = model.get_submodule(_INNER[kind])
    if any(base.__name__ in _SHARDED for base in type(model).__mro__):
        raise WhatwhereError("the model is sharded over processes: do this with the plain model, before it is wrapped")
    return model


def refuse_wrapped(model: nn.Module, action: str = "insert") -> None:
    """Raise if a model, or a part of it, is wrapped or compiled already.

    Args:
        model: the model that is about to be changed.
        action: what is about to be done, for the message.

    Raises:
        WhatwhereError: it is wrapped or compiled, or no module.

    Example:
        >>> import torch
        >>> from whatwhere.graph import refuse_wrapped
        >>> refuse_wrapped(torch.compile(torch.nn.Conv2d(3, 8, 3)), "fuse")
        Traceback (most recent call last):
        ...
        whatwhere.errors.WhatwhereError: the model is already compiled: fuse first, then call torch.compile
    """
    kind = type(model).__name__
    if not isinstance(model, nn.Module):
        raise WhatwhereError(f"a torch.nn.Module is needed, got {kind}")
    if kind != "OptimizedModule" and (kind in _INNER or kind in _SHARDED):
        raise WhatwhereError(f"the model is already wrapped in {kind}: {action} on the plain model first, then wrap it")
    if any(module._compiled_call_impl is not None or "_orig_mod" in module._modules for module in model.modules()):
        raise WhatwhereError(f"the model is already compiled: {action} first, then call torch.compile")
