"""Replacing the attention that a network already has by another, and convolutions by attention that convolves."""

import math
import warnings
from typing import Any

import torch
from torch import nn

from ..cost.counts import count_multiply_adds, count_parameters
from ..errors import WhatwhereError
from ..graph.difference import difference
from ..graph.wrappers import refuse_wrapped
from ..layers import Attention, Entry, create, entry
from .attach import note_replaced, replace_module
from .convolutions import CONVOLUTION
from .old import Old, search
from .outputs import probe_outputs
from .report import ReplacedSite, ReplaceReport

_ROUNDING = 1e-6  # of the largest value: a smaller change is not worth a warning


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

    Any ``old`` finds whatwhere's attention, inserted or part of the network, and attention of other code, by what it
    computes:

    - ``"se"`` finds squeeze-and-excitation of any code (torchvision's, timm's, written by hand), whatever its parts are
      called: see :func:`whatwhere.surgery.excitation.excitations`.
    - Any other finds modules whose tensors have names and shapes that a key map of the attention knows (see
      :class:`whatwhere.KeyMap`; :func:`whatwhere.layers.add_key_map` adds one), and which give the same output as
      whatwhere's with the same weights: see :func:`whatwhere.surgery.foreign.recognise`. Attention without parameters
      has no names, so that of other code is not found.
    - ``"conv3x3"`` finds 3×3 convolutions with as many outputs as inputs, for attentions that replace one (of kind
      ``"replacing"``): see :func:`whatwhere.surgery.convolutions.convolutions`. Say with ``at=`` which ones.

    What looks like ``old`` but computes something else is left alone, and the report says why.

    The same kind, ``replace(model, "eca", "eca")``, keeps all weights: the output stays what it was, now by whatwhere's
    layer. What normalisation does with its running statistics in training is that of whatwhere's layer.

    An attention that can take over a trained squeeze-and-excitation, or the channel part of an old ``cbam``, does. The
    weights of the two layers become those of the MLP of ``se``, ``cam`` or ``cbam``, with the same hidden width,
    activation and gate function. With ``identity=True`` they also squeeze with the old pools (``avg``), and a spatial
    gate starts at 1, so the output of a trained network with squeeze-and-excitation stays what it was.
    ``identity=False`` takes the new attention's own pools, for which the old weights are only a start: the output
    changes, and the report says by how much.

    Where nothing can be taken over (from ``se`` to ``eca``, ``sam`` or ``bam``, from a convolution, with
    ``keep=False``), the new attention starts from new weights, and the trained network's output changes: a warning says
    by how much, and the network has to be trained again.

    Load pretrained weights first: the keys of what is replaced change. :func:`whatwhere.load` still reads those of
    torchvision and timm into ``se`` and ``cam``. :func:`whatwhere.remove` does not bring the old attention or
    convolution back.

    Args:
        model: the network.
        old: the attention to replace, one of :func:`whatwhere.names`, or ``"conv3x3"``.
        new: the attention to put there, one of :func:`whatwhere.names`.
        at: a glob over the names of the modules to replace, such as ``"blocks.5.*"``.
        identity: keep a trained network's output where possible; False takes the paper's form.
        keep: take over the old weights where possible; False starts from new ones, with the new attention's default
            width.
        example: a tensor (or tuple of arguments) to run the network on, see :func:`whatwhere.sites`.
        options: options of the new attention, such as ``kernel_size=5``; they win over what is taken over. A stride is
            that of what is replaced.

    Returns:
        What was replaced, and by how much the output changes; ``print`` it for a table.

    Raises:
        WhatwhereError: unknown name or option, no such attention in the network or under these names (the message says
            what is there), a convolution in one of ``old`` and ``new`` and none in the other, a wrapped or compiled
            network. The network is then as it was.

    Example:
        >>> import torchvision, whatwhere as ww
        >>> model = torchvision.models.mobilenet_v3_small()
        >>> report = ww.replace(model, "se", "cbam")
        >>> len(report.replaced), report.change < 1e-5
        (9, True)
    """
    _check_kinds(old, entry(new), options)
    refuse_wrapped(model, "replace")
    if any(p.is_meta for p in model.parameters()):
        raise WhatwhereError(
            "the model is on the meta device and computes nothing: give it memory with model.to_empty(device=...) first"
        )
    found = search(model, old, entry(new), at, example)
    like = next(model.parameters(), torch.empty(0))
    fresh = {name: _make(new, one, keep, identity, options, like) for name, one in found.there.items()}
    replaced = []
    for name, one in found.there.items():
        attention, kept = fresh[name]
        size = found.shapes[name][1:] if name in found.shapes else None
        replaced.append(_describe(name, one.module, attention, new, kept, size))
    try:
        for name, one in found.there.items():
            replace_module(model, one.module, fresh[name][0])
        after, _ = probe_outputs(model, example, {})
    except BaseException:
        for name, one in found.there.items():
            replace_module(model, fresh[name][0], one.module)
        raise
    for name, one in found.there.items():
        note_replaced(fresh[name][0], type(one.module).__name__)
    report = ReplaceReport(replaced, difference(after, found.before), found.others)
    _warn_of_change(new, report)
    return report


def _check_kinds(old: str, new: Entry, options: dict[str, Any]) -> None:
    """Raise where one of the two has a convolution in it and the other has none."""
    convolves = old == CONVOLUTION or entry(old).replaces
    if new.replaces and not convolves:
        raise WhatwhereError(
            f"{new.name!r} replaces a 3×3 convolution, not {old!r}: whatwhere.replace(model, {CONVOLUTION!r}, "
            f"{new.name!r}, at=...)"
        )
    if convolves and not new.replaces:
        raise WhatwhereError(
            f"{new.name!r} is no convolution and cannot take the place of {old!r}: to add it to the network, "
            f"whatwhere.insert(model, {new.name!r})"
        )
    if convolves and "stride" in options:
        raise WhatwhereError(f"stride={options['stride']!r}: the stride is that of what is replaced, so leave it out")


def _make(
    new: str, old: Old, keep: bool, identity: bool, options: dict[str, Any], like: torch.Tensor
) -> tuple[Attention, bool]:
    """Build the new attention; say whether it took over the old weights."""
    made = entry(new)
    like = next(old.module.parameters(), like)
    factory = {"device": like.device, "dtype": like.dtype}
    if keep and old.attention is not None and type(old.attention) is made.cls:
        again = _again(new, old.attention, identity, options, factory)
        if again is not None:
            return again.train(old.module.training), True
    taken: dict[str, Any] | None = None
    if old.excitation is not None and keep:
        taken = made.cls.options_for_excitation(old.excitation, identity=identity, chosen=options)
    form = identity and (made.exact_identity or not made.replaces)
    chosen = {"identity": form, **(taken or {}), **options, **old.options}
    attention = create(new, old.channels, **chosen, **factory)
    kept = old.excitation is not None and taken is not None and attention.take_excitation(old.excitation)
    return attention.train(old.module.training), kept


def _again(
    name: str, old: Attention, identity: bool, options: dict[str, Any], factory: dict[str, Any]
) -> Attention | None:
    """Build an attention of the same kind with all of its weights, or return None where options make it another."""
    told = dict(old.init_options)
    if "reduction" in options:
        told.pop("hidden", None)
    told["identity"] = identity and told.get("identity", False)
    attention = create(name, old.channels, **{**told, **options}, **factory)
    state, here = old.state_dict(), attention.state_dict()
    if {key: t.shape for key, t in state.items()} != {key: t.shape for key, t in here.items()}:
        return None
    attention.load_state_dict(state)
    return attention


def _warn_of_change(new: str, report: ReplaceReport) -> None:
    """Warn where new weights change what the network computes."""
    count = sum(not one.kept for one in report.replaced)
    if count and report.change > _ROUNDING:
        much = f"by {report.change:.1e} of its largest value" if math.isfinite(report.change) else "in shape"
        warnings.warn(
            f"{count} of {len(report.replaced)} {new!r} start from new weights, so the network's output changes "
            f"{much}: train the network again before it is used",
            stacklevel=3,
        )


def _describe(
    name: str, module: nn.Module, attention: Attention, new: str, kept: bool, size: tuple[int, int] | None
) -> ReplacedSite:
    cost = (0, 0)
    if size is not None:
        shape = (attention.channels, *size)
        cost = (count_multiply_adds(module, shape), count_multiply_adds(attention, shape))
    parameters = (count_parameters(module), count_parameters(attention))
    return ReplacedSite(name, type(module).__name__, new, attention.channels, size, kept, parameters, cost)
