"""The layers beside an attention that the network's own code calls."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from ..graph.trace import trace
from ..layers import Attention


@dataclass(frozen=True)
class Neighbour:
    """The layer whose output only an attention uses (``before``), or the only one that uses an attention's output
    (``after``).
    """

    layer: str
    side: Literal["before", "after"]


def neighbours(model: nn.Module, example: Any) -> dict[str, list[Neighbour]]:
    """Record one forward pass; return by name, for every attention that the network's code calls, the layers beside it.

    The layer before counts if only the attention uses its output; the layer after, if it is a convolution and nothing
    else uses the attention's output.
    """
    record = trace(model, example, hidden=Attention)
    modules = dict(model.named_modules())
    attended = [call for call in record.calls if isinstance(modules[call.name], Attention) and not call.hidden]
    users: dict[
        int | None, list[int | None]
    ] = {}  # of a value: what is made from it, an attention counting as its output
    for number, value in enumerate(record.values):
        for parent in () if value.hidden else value.parents:
            users.setdefault(parent, []).append(number)
    for call in attended:
        for taken in call.inputs:
            users.setdefault(taken, []).append(call.output)
    found: dict[str, list[Neighbour]] = {}
    for call in attended:
        taken, given = call.inputs[0] if call.inputs else None, call.output
        beside = found.setdefault(call.name, [])
        if taken is None or given is None:
            continue
        makers = [one.name for one in record.calls if one.produces and one.output == taken and not one.hidden]
        if makers and len(users[taken]) == 1 and taken not in record.outputs:
            beside.append(Neighbour(makers[0], "before"))
        after = users.get(given, [])
        takers = [one.name for one in record.calls if [one.output] == after and one.inputs[:1] == (given,)]
        if takers and given not in record.outputs and after[0] is not None and record.values[after[0]].is_convolution:
            beside.append(Neighbour(takers[0], "after"))
    return found
