"""Which convolutions ghost convolutions can take the place of."""

import fnmatch
from collections.abc import Sequence

from torch import nn

from ..errors import WhatwhereError, closest
from ..graph.forward import has_foreign_forward
from ..graph.values import Trace
from ..layers import Attention
from ..layers.ghost import GhostModule
from ..layers.ghost_conv import GhostConv


def choose_convolutions(
    model: nn.Module, record: Trace, at: str | Sequence[str], ratio: int
) -> tuple[list[str], dict[str, str]]:
    """Return the convolutions to replace in the order of their first call, and those left alone with the reasons."""
    patterns = [at] if isinstance(at, str) else list(at) if isinstance(at, Sequence) else [None]
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise WhatwhereError(
            f"at={at!r}: give the name of a convolution, a glob such as 'layer3.*', or a list of these"
        )
    convs = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    inside = [name for name, m in model.named_modules() if isinstance(m, (Attention, GhostModule, GhostConv))]
    names, left = list[str](), dict[str, str]()
    for pattern in patterns:
        if not fnmatch.filter(convs, pattern):
            raise WhatwhereError(
                f"at={pattern!r} matches no convolution. There are: "
                f"{', '.join(list(convs)[:8])}{' …' if len(convs) > 8 else ''}{closest(pattern, convs)}"
            )
    order = {name: number for number, name in enumerate(dict.fromkeys(call.name for call in record.calls))}
    for name in sorted(convs, key=lambda name: order.get(name, len(order))):
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            continue
        why = _obstacle(model, convs[name], name, record, ratio)
        if any(name.startswith(f"{outer}.") for outer in inside):
            why = "it belongs to an attention or a ghost module"
        if why and name in patterns:
            raise WhatwhereError(f"{name} cannot be replaced by a ghost convolution: {why}")
        if why:
            left[name] = why
        else:
            names.append(name)
    if not names:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(left.items())[:5])
        raise WhatwhereError(
            f"no convolution of this {type(model).__name__} can be replaced by a ghost convolution at ratio={ratio}"
            f"{f' ({reasons})' if reasons else ''}"
        )
    return names, left


def _obstacle(model: nn.Module, conv: nn.Conv2d, name: str, record: Trace, ratio: int) -> str:
    """Return why a convolution cannot be replaced, or an empty string."""
    calls = [call for call in record.calls if call.name == name]
    own = {id(p) for p in conv.parameters()}
    if type(conv) is not nn.Conv2d:
        return f"it is a {type(conv).__name__}, which may compute something else"
    if conv.groups > 1:
        kind = "it is depthwise" if conv.groups == conv.in_channels else f"it has {conv.groups} groups"
        return f"{kind}, and cheap already"
    if conv.out_channels < ratio:
        return f"it makes {conv.out_channels} maps, fewer than ratio={ratio}"
    if any((conv._forward_hooks, conv._forward_pre_hooks, conv._backward_hooks, conv._backward_pre_hooks)):
        return "it has hooks (of attention, perhaps), which would be lost: ghostify first, then insert"
    if has_foreign_forward(conv):
        return "something else has replaced its forward"
    if sum(module is conv for _, module in model.named_modules(remove_duplicate=False)) > 1:
        return "it has several names"
    if sum(id(p) in own for module in model.modules() for p in module._parameters.values()) > len(own):
        return "another module shares its weights"
    if len(calls) != 1:
        return f"it runs {len(calls)} times in a pass"
    taken, made = calls[0].inputs[:1], calls[0].output
    if made is None or not taken or taken[0] is None:
        return "it takes nothing that depends on the input"
    if record.values[taken[0]].op == "input":
        return "it takes the network's input"
    if _makes_output(record, made):
        return "it makes the network's output"
    if record.values[made].positions <= 1:
        return "its maps have one position"
    return ""


def _makes_output(record: Trace, made: int) -> bool:
    """Whether a value is the network's output, or becomes it by pooling, resizing and the like: without another layer
    that weights or normalises it.
    """
    reached = {made}
    for number, value in enumerate(record.values):
        learned = value.is_weighted or "norm" in value.op
        if not learned and not reached.isdisjoint(value.parents):
            reached.add(number)
    return not reached.isdisjoint(record.outputs)
