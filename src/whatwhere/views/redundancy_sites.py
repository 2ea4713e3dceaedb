"""Which maps of a network :func:`redundancy` measures."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ..errors import WhatwhereError, closest
from ..graph.values import Call, Trace
from .redundancy_result import After

_ACTIVATIONS = {
    "relu", "relu6", "hardtanh", "clamp", "clamp_min", "silu", "gelu", "hardswish", "leaky_relu", "elu", "sigmoid",
    "hardsigmoid", "tanh", "mish", "softplus", "_prelu_kernel",
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One convolution: its name, and the module call whose output is measured (the name, and which of its calls)."""

    module: str
    at: str
    call: int


def choose_maps(model: nn.Module, record: Trace, at: str | Sequence[str], after: After) -> list[Measured]:
    """Return what to measure, in the order in which the convolutions run.

    Raises:
        WhatwhereError: a pattern that matches no convolution, or none that can be measured.
    """
    patterns = [at] if isinstance(at, str) else list(at)
    convs = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    for pattern in patterns:
        if not fnmatch.filter(convs, pattern):
            there = f"{', '.join(list(convs)[:8])}{' …' if len(convs) > 8 else ''}" if convs else "none"
            raise WhatwhereError(f"at={pattern!r} matches no convolution. There are: {there}{closest(pattern, convs)}")
    first = dict[str, Call]()
    for call in record.calls:
        first.setdefault(call.name, call)
    chosen = [name for name in first if name in convs and any(fnmatch.fnmatchcase(name, p) for p in patterns)]
    found = []
    for name in chosen:
        value = first[name].output
        if value is None or convs[name].out_channels < 2 or record.values[value].grid is None:
            continue
        if record.values[value].positions > 1:
            last = _after_activation(record, value) if after == "activation" else value
            found.append(Measured(name, *(_made_by(record, last) or (name, 0))))
    if not found:
        raise WhatwhereError(
            f"no convolution at {at!r} runs and makes at least two maps of more than one position: nothing to compare"
        )
    return found


def _after_activation(record: Trace, value: int) -> int:
    """Follow a map through batch normalisation and activations, as long as nothing else takes it."""
    while True:
        users = [number for number, user in enumerate(record.values) if value in user.parents]
        ops = {record.values[number].op for number in users}
        same = [number for number in users if record.values[number].shape == record.values[value].shape]
        if len(ops) != 1 or len(same) != 1 or len(record.values[same[0]].parents) != 1:
            return value
        op = ops.pop()
        if op not in _ACTIVATIONS and "batch_norm" not in op:
            return value
        value = same[0]


def _made_by(record: Trace, value: int) -> tuple[str, int] | None:
    """Return the innermost module that made a value, and which of its calls did; None where none returned it."""
    counts: dict[str, int] = {}
    for call in record.calls:
        number = counts.get(call.name, 0)
        counts[call.name] = number + 1
        if call.output == value and call.produces:
            return call.name, number
    return None
