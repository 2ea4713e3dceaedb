"""Replacing the attention that a network already has by another."""

import fnmatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..cost.counts import count_multiply_adds, count_parameters
from ..errors import WhatwhereError
from ..graph.difference import difference
from ..graph.guard import evaluation_mode
from ..graph.probe import run_on_probe
from ..graph.wrappers import refuse_wrapped
from ..layers import Attention, Excitation, create, entry
from .attach import attentions, replace_module
from .excitation import excitations
from .report import ReplacedSite, ReplaceReport


def replace(
    model: nn.Module,
    old: str,
    new: str,
    *,
    at: str = "*",
    identity: bool = True,
    keep: bool = True,
    example: Any = None,
    **options: Any,
) -> ReplaceReport:
    """Replace the attention that a network already has by another, in place.

    ``old="se"`` finds squeeze-and-excitation of any code (torchvision's, timm's, written by hand) by what it computes,
    not by its name: see :func:`whatwhere.surgery.excitation.excitations`. Any ``old`` finds whatwhere's attention,
    inserted or part of the network.

    An attention that can take over a trained squeeze-and-excitation does. The weights of the two layers become those of
    the MLP of ``se``, ``cam`` or ``cbam``, with the same hidden width, activation and gate function. With
    ``identity=True`` they also squeeze with the old pools (``avg``), and a spatial gate starts at 1, so a trained
    network's output stays what it was. ``identity=False`` takes the new attention's own pools, for which the old
    weights are only a start: the output changes, and the report says by how much. It also changes where nothing can be
    taken over (``sam``, ``bam``), and with ``keep=False``.

    Load pretrained weights first: the keys of what is replaced change. :func:`whatwhere.load` still reads those of
    torchvision and timm into ``se`` and ``cam``. :func:`whatwhere.remove` does not bring the old attention back.

    Args:
        model: the network.
        old: the attention to replace, one of :func:`whatwhere.names`.
        new: the attention to put there, one of :func:`whatwhere.names`.
        at: a glob over the names of the modules to replace, such as ``"blocks.5.*"``.
        identity: keep a trained network's output where possible; False takes the paper's form.
        keep: take over the old weights where possible; False starts from new ones, with the new attention's default
            width.
        example: a tensor (or tuple of arguments) to run the network on, see :func:`whatwhere.sites`.
        options: options of the new attention, such as ``kernel_size=5``; they win over what is taken over.

    Returns:
        What was replaced, and by how much the output changes; ``print`` it for a table.

    Raises:
        WhatwhereError: unknown name or option, no such attention in the network or under these names (the message says
            what is there), a wrapped or compiled network. The network is then as it was.

    Example:
        >>> import torchvision, whatwhere as ww
        >>> model = torchvision.models.mobilenet_v3_small()
        >>> report = ww.replace(model, "se", "cbam")
        >>> len(report.replaced), report.change < 1e-5
        (9, True)
    """
    entry(old), entry(new)
    refuse_wrapped(model)
    if any(p.is_meta for p in model.parameters()):
        raise WhatwhereError(
            "the model is on the meta device and computes nothing: give it memory with model.to_empty(device=...) first"
        )
    there, others = _find(model, old, at)
    fresh = {}
    for name, (module, excitation) in there.items():
        fresh[name] = _make(new, module, excitation, keep, identity, options)
    before, sizes = _outputs(model, example, {name: module for name, (module, _) in there.items()})
    replaced = []
    for name, (module, _) in there.items():
        attention, kept = fresh[name]
        replaced.append(_describe(name, module, attention, new, kept, sizes.get(name)))
    try:
        for name, (module, _) in there.items():
            replace_module(model, module, fresh[name][0])
        after, _ = _outputs(model, example, {})
    except BaseException:
        for name, (module, _) in there.items():
            replace_module(model, fresh[name][0], module)
        raise
    return ReplaceReport(replaced, difference(after, before), others)


def _find(model: nn.Module, old: str, at: str) -> tuple[dict[str, tuple[nn.Module, Excitation | None]], dict[str, str]]:
    """Return the modules to replace by name, each with its excitation, and what else gates channels."""
    found: dict[str, tuple[nn.Module, Excitation | None]] = {}
    others: dict[str, str] = {}
    kind = entry(old)
    for name, attention in attentions(model).items():
        if type(attention) is kind.cls:
            found[name] = (attention, attention.excitation())
    if kind.is_excitation:
        theirs, others = excitations(model)
        for name, excitation in theirs.items():
            module = model.get_submodule(name)
            if module._forward_hooks or module._forward_pre_hooks:
                others[name] = f"{type(module).__name__} has hooks, which would be lost"
            else:
                found[name] = (module, excitation)
    order = {name: number for number, (name, _) in enumerate(model.named_modules())}
    chosen = {name: found[name] for name in sorted(found, key=order.__getitem__) if fnmatch.fnmatchcase(name, at)}
    if chosen:
        return chosen, others
    if found:
        raise WhatwhereError(f"at={at!r} matches none of the sites of {old!r}: {', '.join(found)}")
    seen = "; ".join(f"{name}: {why}" for name, why in list(others.items())[:5])
    ours = ", ".join(f"{name} ({type(a).__name__})" for name, a in list(attentions(model).items())[:5])
    raise WhatwhereError(
        f"there is no {old!r} in this {type(model).__name__}"
        + (f". What gates channels there: {seen}" if seen else "")
        + (f". whatwhere's attention there: {ours}" if ours else "")
        + f". To add attention: whatwhere.insert(model, {old!r})"
    )


def _make(
    new: str, module: nn.Module, excitation: Excitation | None, keep: bool, identity: bool, options: dict[str, Any]
) -> tuple[Attention, bool]:
    """Build the new attention; say whether it took over the old weights."""
    taken: dict[str, Any] | None = None
    if excitation is not None and keep:
        taken = entry(new).cls.options_for_excitation(excitation, identity=identity, chosen=options)
    like = next(module.parameters())
    channels = module.channels if excitation is None else excitation.channels
    assert isinstance(channels, int)
    chosen = {"identity": identity, **(taken or {}), **options}
    attention = create(new, channels, **chosen, device=like.device, dtype=like.dtype)
    kept = excitation is not None and taken is not None and attention.take_excitation(excitation)
    return attention.train(module.training), kept


def _describe(
    name: str, module: nn.Module, attention: Attention, new: str, kept: bool, size: tuple[int, int] | None
) -> ReplacedSite:
    cost = (0, 0)
    if size is not None:
        shape = (attention.channels, *size)
        cost = (count_multiply_adds(module, shape), count_multiply_adds(attention, shape))
    parameters = (count_parameters(module), count_parameters(attention))
    return ReplacedSite(name, type(module).__name__, new, attention.channels, size, kept, parameters, cost)


def _outputs(
    model: nn.Module, example: Any, watched: dict[str, nn.Module]
) -> tuple[list[Tensor], dict[str, tuple[int, int]]]:
    """Run a network on the probe input; return its outputs, and the sizes of the maps at the watched modules."""
    sizes: dict[str, tuple[int, int]] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], Tensor) and args[0].dim() == 4:
                sizes[name] = (args[0].shape[2], args[0].shape[3])

        return hook

    def run(arguments: tuple[Any, ...]) -> Any:
        handles = [module.register_forward_pre_hook(note(name)) for name, module in watched.items()]
        try:
            with evaluation_mode(model), torch.no_grad():
                return model(*arguments)
        finally:
            for handle in handles:
                handle.remove()

    leaves = tree_leaves(run_on_probe(model, example, run))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()], sizes
