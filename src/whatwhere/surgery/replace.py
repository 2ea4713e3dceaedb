"""Swapping the attention that a network already has for another."""

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
from ..layers import CBAM, Attention, create, entry
from ..layers.mlp import MLP
from .attach import attentions, replace_module
from .excitation import Excitation, excitations, of_attention
from .report import ReplaceReport, Swap


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
    """Swap the attention that a network already has for another, in place.

    ``old="se"`` finds squeeze-and-excitation wherever it is (torchvision's, timm's, written by hand): not by its name but by what it computes, see
    :func:`whatwhere.networks.excitation.excitations`. For any ``old``, attention from here is found too, inserted or part of the network.

    What two attentions have in common goes on. The weights of SE's two layers become those of the MLP of ``se``, ``cam`` or ``cbam``, which
    take over its hidden width, activation and gate function. With ``identity=True`` they also squeeze with the old pools (``avg``), and a
    spatial gate starts at 1, so a trained network's output stays what it was; ``identity=False`` takes the new attention's own pools, for
    which the old weights are only a start. The output changes then, and the report says by how much. So it does where nothing is in common
    (``sam``, ``bam``), and with ``keep=False``.

    Load pretrained weights before: keys of what is swapped change (those of torchvision and timm are still understood by
    :func:`whatwhere.load`, by ``se`` and ``cam``). :func:`whatwhere.remove` does not bring the old attention back.

    Args:
        model: the network.
        old: the attention to swap: ``"se"``, or any of :func:`whatwhere.names` for attention from here.
        new: one of :func:`whatwhere.names`.
        at: a glob over the names of the modules to swap, such as ``"blocks.5.*"``.
        identity: leave a trained network's output as it is where that can be; False takes the paper's form.
        keep: let the old weights go on; False begins anew, with the new attention's default width.
        example: a tensor (or tuple of arguments) to run the network on, see :func:`whatwhere.sites`.
        options: options of the new attention, such as ``kernel_size=5``; they go before what is taken over.

    Returns:
        What was swapped, and by how much the output changes; ``print`` it for a table.

    Raises:
        WhatwhereError: unknown name or option, nothing of that kind in the network or at these names (the message says what is there),
            a wrapped or compiled network; the network is then as it was.

    Example:
        >>> import torchvision, whatwhere as ww
        >>> model = torchvision.models.mobilenet_v3_small()
        >>> report = ww.replace(model, "se", "cbam")
        >>> len(report.swaps), report.change < 1e-5
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
    swaps = []
    for name, (module, _) in there.items():
        attention, kept = fresh[name]
        swaps.append(_describe(name, module, attention, new, kept, sizes.get(name)))
    try:
        for name, (module, _) in there.items():
            replace_module(model, module, fresh[name][0])
        after, _ = _outputs(model, example, {})
    except BaseException:
        for name, (module, _) in there.items():
            replace_module(model, fresh[name][0], module)
        raise
    return ReplaceReport(swaps, difference(after, before), others)


def _find(model: nn.Module, old: str, at: str) -> tuple[dict[str, tuple[nn.Module, Excitation | None]], dict[str, str]]:
    """Return the modules to swap by name, each with its excitation, and what else gates channels."""
    found: dict[str, tuple[nn.Module, Excitation | None]] = {}
    others: dict[str, str] = {}
    kind = entry(old).cls
    for name, attention in attentions(model).items():
        if type(attention) is kind:
            found[name] = (attention, of_attention(attention))
    if old == "se":
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
        + (f". Attention from here: {ours}" if ours else "")
        + f". To add attention: whatwhere.insert(model, {old!r})"
    )


def _make(
    new: str, module: nn.Module, excitation: Excitation | None, keep: bool, identity: bool, options: dict[str, Any]
) -> tuple[Attention, bool]:
    """Build the new attention; say whether the old weights go on in it."""
    known = entry(new)
    taken: dict[str, Any] = {"identity": identity}
    goes_on = keep and "activation" in known.options
    if excitation is not None and goes_on:
        taken |= {"activation": excitation.activation, "gate": excitation.gate, "bias": excitation.bias}
        if "reduction" not in options:
            taken["hidden"] = excitation.hidden
        if identity and "pools" in known.options:
            taken["pools"] = excitation.pools
        if not excitation.identity:
            both = known.cls is CBAM and options.get("channel", True) and options.get("spatial", True)
            taken["identity"] = "spatial" if identity and both else False
    like = next(module.parameters())
    channels = module.channels if excitation is None else excitation.channels
    assert isinstance(channels, int)
    attention = create(new, channels, **{**taken, **options}, device=like.device, dtype=like.dtype)
    mlps = [part for part in attention.modules() if isinstance(part, MLP)]
    kept = excitation is not None and goes_on and len(mlps) == 1 and excitation.write(mlps[0])
    return attention.train(module.training), kept


def _describe(
    name: str, module: nn.Module, attention: Attention, new: str, kept: bool, size: tuple[int, int] | None
) -> Swap:
    cost = (0, 0)
    if size is not None:
        shape = (attention.channels, *size)
        cost = (count_multiply_adds(module, shape), count_multiply_adds(attention, shape))
    parameters = (count_parameters(module), count_parameters(attention))
    return Swap(name, type(module).__name__, new, attention.channels, size, kept, parameters, cost)


def _outputs(
    model: nn.Module, example: Any, watched: dict[str, nn.Module]
) -> tuple[list[Tensor], dict[str, tuple[int, int]]]:
    """Run a network on the trial input; return its outputs, and the sizes of the maps at the watched modules."""
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
