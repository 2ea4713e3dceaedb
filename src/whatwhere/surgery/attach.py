"""Attaching an attention to a module: it becomes a child called ``attention``, and a hook of the module applies it.

No module is replaced and no parameter renamed, so pretrained weights load before and after. The hooks are plain
functions of this file, so that ``deepcopy``, ``pickle``, ``torch.compile`` and ``torch.export`` know what to do with
them.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..errors import WhatwhereError
from ..graph.forward import fused_with, pin_forward, unpin_forward
from ..graph.wrappers import check_model
from ..layers import Attention
from ..placement.site import Side
from .blocks import run_norm


def _after(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    """Forward hook: attention on what the module returns, unless a fused op has applied it already."""
    if fused_with(module) is run_norm:
        return output
    attention: Any = module.attention
    attended: Tensor = attention(output)
    return attended


def _after_nhwc(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    """Forward hook: attention on what the module returns, which is ``(N, H, W, C)``."""
    attention: Any = module.attention
    attended: Tensor = attention(output.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return attended


def _before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Forward pre-hook: attention on what goes into the module."""
    attention: Any = module.attention
    return (attention(args[0]), *args[1:])


_HOOKS: dict[Side, Any] = {"output": _after, "nhwc": _after_nhwc, "input": _before}


def attach(module: nn.Module, attention: Attention, side: Side) -> None:
    """Make ``attention`` a child of a module, and let a hook apply it on that side."""
    module.add_module("attention", attention)
    if side == "input":
        module.register_forward_pre_hook(_HOOKS[side])
    else:
        module.register_forward_hook(_HOOKS[side])
    pin_forward(module)


def detach(module: nn.Module) -> None:
    """Take the attention of :func:`attach` off a module, with its hooks."""
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        for key in [key for key, hook in hooks.items() if hook in _HOOKS.values()]:
            del hooks[key]
    if fused_with(module) is run_norm:
        del module.__dict__["forward"]
    unpin_forward(module)
    del module.attention


def attached_side(module: nn.Module) -> Side | None:
    """Return on which side of a module an attached attention is applied, or None where there is none."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return next((side for side, hook in _HOOKS.items() if hook in hooks), None)


def has_lost_hook(module: nn.Module) -> bool:
    """Whether this is a normalisation layer with an attention that nothing applies: norms have no children of their
    own.
    """
    norm = isinstance(module, nn.modules.batchnorm._NormBase)
    return norm and isinstance(module._modules.get("attention"), Attention) and attached_side(module) is None


def attentions(model: nn.Module) -> dict[str, Attention]:
    """Return the attentions of a network by module name, in the order of its modules.

    The key of an inserted attention is the module that it is attached to (``"layer1.0.bn2"``), that of one which the
    network's own code calls is its own name.

    Raises:
        WhatwhereError: no network; an inserted attention has lost its hook, because something replaced the module that
            it was in.

    Example:
        >>> import torch, whatwhere as ww
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), ww.SE(8))
        >>> list(ww.attentions(model))
        ['1']
    """
    check_model(model)
    found: dict[str, Attention] = {}
    lost = []
    inner: list[str] = []
    for name, module in model.named_modules():
        if any(not outer or name.startswith(f"{outer}.") for outer in inner):
            continue
        if isinstance(module, Attention):
            inner.append(name)
            parent, _, last = name.rpartition(".")
            attached = last == "attention" and attached_side(model.get_submodule(parent)) is not None
            found[parent if attached else name] = module
        elif has_lost_hook(module):
            lost.append(name)
    if lost:
        raise WhatwhereError(
            f"the attention at {', '.join(lost)} is no longer applied: something replaced the module and dropped its "
            "hooks (SyncBatchNorm conversion does). Convert first, then insert"
        )
    return found


@dataclass(frozen=True)
class _Replaced:
    """What an attention took the place of. Kept on the attention, where it survives copies."""

    what: str


def note_replaced(attention: Attention, what: str) -> None:
    """Note on an attention that it took the place of a module of the network, of the class called ``what``."""
    vars(attention)["_replaced"] = _Replaced(what)


def replaced_attentions(model: nn.Module) -> dict[str, str]:
    """Return the attentions that took the place of the network's own modules, each with the class of that module."""
    noted = {name: vars(module).get("_replaced") for name, module in model.named_modules()}
    return {name: note.what for name, note in noted.items() if isinstance(note, _Replaced)}


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace a module of a network by another, under every name that it has."""
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new
