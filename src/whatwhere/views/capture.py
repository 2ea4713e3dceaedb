"""Listening to the gates of every attention while a model runs."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ..errors import WhatwhereError
from ..graph.guard import eager
from ..graph.wrappers import unwrap
from ..layers import GatedAttention, Gates
from ..surgery import attentions


class Seen(Mapping[str, Gates]):
    """Module name → :class:`Gates` of the last forward pass, in order of execution; filled by :func:`capture`.

    Attributes:
        attentions: module name → its attention, in order of definition, also of those that have not run.
        sizes: module name → (H, W) of the map that the gates are for, of those that have run.

    Example:
        >>> import torch, whatwhere as ww
        >>> with capture(torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), ww.SE(16))) as seen:
        ...     pass
        >>> seen
        Seen: 0 of 1 attentions have run
    """

    def __init__(self, attentions: Mapping[str, GatedAttention]) -> None:
        self.attentions = dict(attentions)
        self.sizes: dict[str, tuple[int, int]] = {}
        self._gates: dict[str, Gates] = {}

    def __getitem__(self, module: str) -> Gates:
        if module in self._gates:
            return self._gates[module]
        if module in self.attentions:
            raise KeyError(f"the attention at {module!r} has not run: call the model inside 'with capture(model)'")
        raise KeyError(f"no attention at {module!r} that has gates; one is at {', '.join(map(repr, self.attentions))}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._gates)

    def __len__(self) -> int:
        return len(self._gates)

    def __contains__(self, module: object) -> bool:
        return module in self._gates

    def __repr__(self) -> str:
        lines = [
            f"  {module!r}: {kind} {tuple(gate.shape)}"
            for module, gates in self._gates.items()
            for kind, gate in zip(gates._fields, gates, strict=True)
            if gate is not None
        ]
        return "\n".join([f"Seen: {len(self)} of {len(self.attentions)} attentions have run", *lines])

    def clear(self) -> None:
        """Forget everything seen so far."""
        self._gates.clear()
        self.sizes.clear()

    def note(self, module: str, gates: Gates, size: tuple[int, int]) -> None:
        """Remember the gates of one call, as the latest."""
        self._gates.pop(module, None)
        self._gates[module] = Gates(*(None if gate is None else gate.detach() for gate in gates))
        self.sizes[module] = size


@contextlib.contextmanager
def capture(model: nn.Module) -> Iterator[Seen]:
    """Listen to every attention of ``model`` that has gates, inside a ``with`` block.

    Each forward pass replaces the gates of the one before. Gates are detached and stay on their device; an attention
    that is called more than once in a pass keeps its last gates. The parts of an attention (the two of a CBAM) are not
    listed. A model compiled by :func:`torch.compile` runs as plain Python inside the block. Afterwards the model is as
    before, also after an error; blocks may be nested.

    Args:
        model: a network with attentions, inserted by :func:`whatwhere.insert` or built in by hand; or an attention
            alone, whose name is then "".

    Yields:
        A mapping from module name ("layer1.0.bn3") to :class:`Gates`, in order of execution.

    Raises:
        WhatwhereError: the model has no attention, or none with gates; not a module, or a ``DataParallel``.

    Example:
        >>> import torch, whatwhere as ww
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), ww.CBAM(16))
        >>> with ww.capture(model) as seen:
        ...     y = model(torch.randn(2, 3, 9, 9))
        >>> seen["1"].spatial.shape
        torch.Size([2, 1, 7, 7])
    """
    root = unwrap(model)
    gated = attended(root)
    if not gated:
        raise _no_gates(root)
    seen = Seen(gated)
    with contextlib.ExitStack() as undo:
        undo.enter_context(eager(model))
        start = root.register_forward_pre_hook(lambda *_: seen.clear())
        undo.callback(start.remove)
        for module, attention in gated.items():
            undo.callback(_restore, attention, vars(attention).get("gates"))
            vars(attention)["gates"] = _Listener(attention.gates, seen, module)
        yield seen


def attended(model: nn.Module) -> dict[str, GatedAttention]:
    """Return the attentions that :func:`capture` listens to, by module name, in order of definition.

    These are the outermost attentions that have gates; {} where there are none.

    Example:
        >>> import torch, whatwhere as ww
        >>> list(attended(torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), ww.CBAM(16))))
        ['1']
    """
    found = attentions(unwrap(model))
    return {name.replace("_orig_mod.", ""): one for name, one in found.items() if isinstance(one, GatedAttention)}


def _no_gates(model: nn.Module) -> WhatwhereError:
    """Return the error for a model without attentions, or without gates in them."""
    kind, others = type(model).__name__, attentions(model)
    if others:
        listed = ", ".join(f"{type(attention).__name__} at {name!r}" for name, attention in others.items())
        return WhatwhereError(
            f"no attention of {kind} has gates to listen to ({listed}): their output is not the map times gates. "
            "whatwhere.look(model, image) shows Grad-CAM for them"
        )
    return WhatwhereError(
        f"{kind} has no attention to listen to: call whatwhere.insert(model, 'cbam') first, "
        f"or build a layer of whatwhere into it"
    )


class _Listener:
    """Stands in for the ``gates`` method of one attention."""

    def __init__(self, gates: Any, seen: Seen, module: str) -> None:
        self.gates, self.seen, self.module = gates, seen, module

    def __call__(self, x: Tensor) -> Gates:
        gates: Gates = self.gates(x)
        self.seen.note(self.module, gates, (int(x.shape[-2]), int(x.shape[-1])))
        return gates


def _restore(attention: GatedAttention, before: Any) -> None:
    if before is None:
        vars(attention).pop("gates", None)
    else:
        vars(attention)["gates"] = before
