"""Listening to the gates of every attention while a model runs."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ..errors import WhatwhereError
from ..layers import Attention, Gates
from ..networks import attentions
from .state import eager, unwrap


class Seen(Mapping[str, Gates]):
    """Place → :class:`Gates` of the last forward pass, in order of execution; filled by :func:`capture`.

    Attributes:
        attentions: place → the attention that stands there, in order of definition, also those that have not run.
        sizes: place → (H, W) of the map that the gates are for, of those that have run.
    """

    def __init__(self, attentions: Mapping[str, Attention]) -> None:
        self.attentions = dict(attentions)
        self.sizes: dict[str, tuple[int, int]] = {}
        self._gates: dict[str, Gates] = {}

    def __getitem__(self, place: str) -> Gates:
        if place in self._gates:
            return self._gates[place]
        if place in self.attentions:
            raise KeyError(f"the attention at {place!r} has not run: call the model inside 'with capture(model)'")
        raise KeyError(f"no attention at {place!r}; there is one at {', '.join(map(repr, self.attentions))}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._gates)

    def __len__(self) -> int:
        return len(self._gates)

    def __contains__(self, place: object) -> bool:
        return place in self._gates

    def __repr__(self) -> str:
        lines = [
            f"  {place!r}: {kind} {tuple(gate.shape)}"
            for place, gates in self._gates.items()
            for kind, gate in zip(gates._fields, gates, strict=True)
            if gate is not None
        ]
        return "\n".join([f"Seen: {len(self)} of {len(self.attentions)} attentions have run", *lines])

    def clear(self) -> None:
        """Forget everything seen so far."""
        self._gates.clear()
        self.sizes.clear()

    def note(self, place: str, gates: Gates, size: tuple[int, int]) -> None:
        """Remember the gates of one call, as the latest."""
        self._gates.pop(place, None)
        self._gates[place] = Gates(*(None if gate is None else gate.detach() for gate in gates))
        self.sizes[place] = size


@contextlib.contextmanager
def capture(model: nn.Module) -> Iterator[Seen]:
    """Listen to every attention of ``model`` inside a ``with`` block.

    Each forward pass replaces what the one before it left. Gates are detached and stay on their device; an attention that is called more
    than once in a pass keeps its last gates. What is inside an attention (the two parts of a CBAM) is not listed by itself.
    A model compiled by :func:`torch.compile` runs as plain Python inside the block. Afterwards the model is as before,
    also after an error; blocks may be nested.

    Args:
        model: a network with attentions, inserted by :func:`whatwhere.insert` or built in by hand; or an attention by itself, whose place is "".

    Yields:
        A mapping from place ("layer1.0.bn3") to :class:`Gates`, in order of execution.

    Raises:
        WhatwhereError: no attention in the model, not a module, or a ``DataParallel``.

    Example:
        >>> import torch, whatwhere as ww
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), ww.CBAM(16))
        >>> with ww.capture(model) as seen:
        ...     y = model(torch.randn(2, 3, 9, 9))
        >>> seen["1"].spatial.shape
        torch.Size([2, 1, 7, 7])
    """
    root = unwrap(model)
    places = attended(root)
    if not places:
        raise WhatwhereError(
            f"{type(root).__name__} has no attention to listen to: call whatwhere.insert(model, 'cbam') first, "
            f"or build a layer of whatwhere into it"
        )
    seen = Seen(places)
    with contextlib.ExitStack() as undo:
        undo.enter_context(eager(model))
        start = root.register_forward_pre_hook(lambda *_: seen.clear())
        undo.callback(start.remove)
        for place, attention in places.items():
            undo.callback(_restore, attention, vars(attention).get("gates"))
            vars(attention)["gates"] = _Listener(attention.gates, seen, place)
        yield seen


def attended(model: nn.Module) -> dict[str, Attention]:
    """Return place → attention for the outermost attentions of ``model``, in order of definition; {} where there are none."""
    root = unwrap(model)
    return {place.replace("_orig_mod.", ""): attention for place, attention in attentions(root).items()}


class _Listener:
    """Stands in for the ``gates`` method of one attention."""

    def __init__(self, gates: Any, seen: Seen, place: str) -> None:
        self.gates, self.seen, self.place = gates, seen, place

    def __call__(self, x: Tensor) -> Gates:
        gates: Gates = self.gates(x)
        self.seen.note(self.place, gates, (int(x.shape[-2]), int(x.shape[-1])))
        return gates


def _restore(attention: Attention, before: Any) -> None:
    if before is None:
        vars(attention).pop("gates", None)
    else:
        vars(attention)["gates"] = before
