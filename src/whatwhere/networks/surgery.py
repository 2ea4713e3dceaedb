"""Putting attention into a network, and taking it out again.

Attention becomes a child called ``attention`` of the module at its place, and a hook of that module applies it. No module is replaced
and no parameter renamed, so pretrained weights load before and after; the hooks are plain functions of this file, so that
``deepcopy``, ``pickle``, ``torch.compile`` and ``torch.export`` know what to do with them.

``torch.compile`` takes code that it has compiled for one module for every other of the same class, and does not look whether that one has hooks.
It does look for a ``forward`` in the module's own ``__dict__``. So a module with attention carries its class's forward there.
"""

import functools
from typing import Any

from torch import Tensor, nn

from ..errors import WhatwhereError
from ..layers import Attention, create, entry
from .counting import count_multiply_adds, count_parameters
from .places import At, Stages, find
from .report import Placed, Report
from .site import Side
from .tails import fused_with, run_norm

_WRAPPERS = {"DistributedDataParallel", "DataParallel", "FullyShardedDataParallel"}


def _after(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    """Forward hook: attention on what the module returns, if that has not been part of one op."""
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


def hang(module: nn.Module, attention: Attention, side: Side) -> None:
    """Make attention a child of a module, and let a hook apply it."""
    module.add_module("attention", attention)
    if side == "input":
        module.register_forward_pre_hook(_HOOKS[side])
    else:
        module.register_forward_hook(_HOOKS[side])
    mark(module)


def swap(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put another module in a module's place, under every name that it has in a network."""
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new


def own_forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Run the forward of the module's class."""
    return type(module).forward(module, *args, **kwargs)


def mark(module: Any) -> None:
    """Let ``torch.compile`` see that a module has attention."""
    if "forward" not in module.__dict__:
        module.forward = functools.partial(own_forward, module)


def replaced(module: nn.Module) -> bool:
    """Whether somebody else has given a module another forward than its class's."""
    forward = module.__dict__.get("forward")
    return forward is not None and getattr(forward, "func", None) is not own_forward and not fused_with(module)


def unmark(module: nn.Module) -> None:
    """Take the mark away, and the forward of a norm that was one op with its attention."""
    forward = module.__dict__.get("forward")
    if isinstance(forward, functools.partial) and forward.func in (own_forward, run_norm):
        del module.__dict__["forward"]


def insert(
    model: nn.Module,
    name: str,
    at: At | None = None,
    *,
    stages: Stages | None = None,
    identity: bool = True,
    example: Any = None,
    **options: Any,
) -> Report:
    """Put attention into a network, in place.

    Every parameter that the network had keeps its key; the new ones are called ``<place>.attention.*``. With ``identity=True`` every
    gate is exactly 1 at the start, so the output is what it was. Either all places get their attention or, on an error, none.

    The hooks live on modules: convert to ``SyncBatchNorm`` *before* inserting (the conversion replaces modules and loses their
    hooks; :func:`attentions` then raises), and insert before ``torch.compile`` and before wrapping in ``DistributedDataParallel``.

    Args:
        model: the network.
        name: one of :func:`whatwhere.names`.
        at: which places: a glob over the places of :func:`sites` or over module names, such as ``"layer4.*"``; ``"residual"``, ``"stage"``
            or ``"norm"``; a list of these or of sites; or a function of a site. By default all places. See :func:`sites`.
        stages: which stages, counted from 0 for the largest map or negative from the end, such as ``(-2, -1)``.
        identity: start with gates of exactly 1; False gives the paper's form.
        example: a tensor (or tuple of arguments) to run the network on once, see :func:`sites`.
        options: options of the attention, such as ``reduction=8``.

    Returns:
        What was put where, with parameters and multiply-adds; ``print`` it for a table.

    Raises:
        WhatwhereError: unknown name or option, no place found, none that ``at`` and ``stages`` choose, a place that has attention already.

    Example:
        >>> import torchvision, whatwhere as ww
        >>> model = torchvision.models.resnet18()
        >>> len(ww.insert(model, "cbam", at="layer4.*").placed)
        2
    """
    entry(name)
    refuse_wrapped(model)
    chosen = find(model, example, at, stages)
    taken = [site.place for site in chosen if _is_attended(model.get_submodule(site.place))]
    if taken:
        raise WhatwhereError(
            f"there is attention already at {', '.join(taken)}: whatwhere.remove(model) first, or choose other places with at="
        )
    made, placed, counted = [], [], dict[tuple[int, tuple[int, int]], int]()
    for site in chosen:
        attention = create(name, site.channels, identity=identity, device=site.device, dtype=site.dtype, **options)
        cost = (site.channels, site.size)
        if cost not in counted:
            counted[cost] = count_multiply_adds(attention, (site.channels, *site.size))
        made.append(attention)
        placed.append(
            Placed(site.place, site.kind, name, site.channels, site.size, count_parameters(attention), counted[cost])
        )
    for site, attention in zip(chosen, made, strict=True):
        module = model.get_submodule(site.place)
        hang(module, attention.train(module.training), site.side)
    return Report(placed)


def remove(model: nn.Module) -> int:
    """Take out everything that :func:`insert` put in, and return how many there were.

    The network's output is then bit for bit what it was before; weights that were trained in between stay as they are now. Attention that is
    part of the network's own code is left alone.
    """
    modules = [module for module in model.modules() if _is_attended(module) or _lost(module)]
    for module in modules:
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if hook in _HOOKS.values()]:
                del hooks[key]
        unmark(module)
        del module.attention
    return len(modules)


def attentions(model: nn.Module) -> dict[str, Attention]:
    """Return the attentions of a network by place, in the order of its modules.

    The key of an inserted attention is its place (``"layer1.0.bn2"``), that of one which the network's own code calls is its own name.

    Raises:
        WhatwhereError: an inserted attention has lost its hook, because something replaced the module that it was in.
    """
    found: dict[str, Attention] = {}
    lost = []
    inner: list[str] = []
    for name, module in model.named_modules():
        if any(not outer or name.startswith(f"{outer}.") for outer in inner):
            continue
        if isinstance(module, Attention):
            inner.append(name)
            parent, _, last = name.rpartition(".")
            place = parent if last == "attention" and _is_attended(model.get_submodule(parent)) else name
            found[place] = module
        elif _lost(module):
            lost.append(name)
    if lost:
        raise WhatwhereError(
            f"the attention at {', '.join(lost)} is no longer applied: something replaced the module and dropped its hooks (SyncBatchNorm "
            "conversion does). Convert first, then insert"
        )
    return found


def _is_attended(module: nn.Module) -> bool:
    """Whether :func:`insert` put attention into this module, and the module still applies it."""
    return hook_of(module) is not None


def hook_of(module: nn.Module) -> Side | None:
    """Return on which side of a module :func:`insert` has put attention that is still applied, or None."""
    there = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return next((side for side, hook in _HOOKS.items() if hook in there), None)


def _lost(module: nn.Module) -> bool:
    """Whether this is a normalisation layer with attention that nothing applies: norms have no children of their own."""
    norm = isinstance(module, nn.modules.batchnorm._NormBase)
    return norm and isinstance(module._modules.get("attention"), Attention) and not _is_attended(module)


def refuse_wrapped(model: nn.Module) -> None:
    """Raise if a model is wrapped or compiled already."""
    kind = type(model).__name__
    if kind in _WRAPPERS:
        raise WhatwhereError(f"the model is already wrapped in {kind}: insert into the plain model first, then wrap it")
    if kind == "OptimizedModule" or getattr(model, "_compiled_call_impl", None) is not None:
        raise WhatwhereError("the model is already compiled: insert first, then call torch.compile")
