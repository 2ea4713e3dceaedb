"""The layers beside an attention that the network's own code calls."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from ..layers import Attention
from .trace import trace


@dataclass(frozen=True)
class Neighbour:
    """A module that alone makes the map that an attention takes (``before``), or alone takes the one that it gives (``after``)."""

    layer: str
    side: Literal["before", "after"]


def neighbours(model: nn.Module, example: Any) -> dict[str, list[Neighbour]]:
    """Watch one forward pass; return for every attention that is called itself, by name, the layers beside it.

    The one before it counts if nothing but the attention uses its output, the one after it if it is a convolution and nothing else uses
    what the attention gives.
    """
    record = trace(model, example, hidden=Attention)
    users: dict[int, list[int]] = {}
    for number, value in enumerate(record.values):
        for parent in () if value.hidden else value.parents:
            users.setdefault(parent, []).append(number)
    modules = dict(model.named_modules())
    found: dict[str, list[Neighbour]] = {}
    for call in record.calls:
        if not isinstance(modules[call.name], Attention) or call.output is None or call.inputs[:1] in ((), (None,)):
            continue
        taken = call.inputs[0]
        beside = found.setdefault(call.name, [])
        makers = [one.name for one in record.calls if one.produces and one.output == taken and not one.hidden]
        if makers and taken is not None and not users.get(taken) and taken not in record.outputs:
            beside.append(Neighbour(makers[0], "before"))
        after = users.get(call.output, [])
        if len(after) == 1 and call.output not in record.outputs and record.values[after[0]].is_convolution:
            takers = [one.name for one in record.calls if one.output == after[0] and one.inputs[:1] == (call.output,)]
            beside += [Neighbour(name, "after") for name in takers[:1]]
    return found
