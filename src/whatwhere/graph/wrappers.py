"""Models inside ``torch.compile``, ``DistributedDataParallel`` and the like."""

from collections.abc import Mapping

from torch import nn

from ..errors import WhatwhereError

_INNER = {"DistributedDataParallel": "module", "DataParallel": "module", "OptimizedModule": "_orig_mod"}
_SHARDED = {"FullyShardedDataParallel", "FSDPModule"}


def check_model(model: object) -> None:
    """Raise unless ``model`` is a module, with what to do about a class or a function that makes one.

    Example:
        >>> import torch
        >>> from whatwhere.graph import check_model
        >>> check_model(torch.nn.ReLU)
        Traceback (most recent call last):
        ...
        whatwhere.errors.WhatwhereError: a torch.nn.Module is needed, got the class ReLU: make one, ReLU(...)
    """
    if isinstance(model, nn.Module):
        return
    name = getattr(model, "__name__", "")
    if isinstance(model, type):
        came = f"the class {name}: make one, {name}(...)"
    elif callable(model) and name:
        came = f"the function {name}: if it makes the network, call it, {name}(...)"
    elif isinstance(model, str):
        came = f"the word {model!r}: build that network first, such as with timm.create_model"
    elif isinstance(model, Mapping):
        came = f"a {type(model).__name__}: build the network first, then load these weights into it"
    else:
        came = f"{type(model).__name__}"
    raise WhatwhereError(f"a torch.nn.Module is needed, got {came}")


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
    check_model(model)
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
    check_model(model)
    kind = type(model).__name__
    if kind != "OptimizedModule" and (kind in _INNER or kind in _SHARDED):
        raise WhatwhereError(f"the model is already wrapped in {kind}: {action} on the plain model first, then wrap it")
    if any(module._compiled_call_impl is not None or "_orig_mod" in module._modules for module in model.modules()):
        raise WhatwhereError(f"the model is already compiled: {action} first, then call torch.compile")
