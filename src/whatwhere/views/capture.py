"""Listening to the gates of every attention while a model runs."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ..errors import WhatwhereError
from ..graph.guard import eager
from ..graph.wrappers import unwrap
from ..layers import Attention, GatedAttention, Gates
from ..surgery import attentions


class Seen(Mapping[str, Gates]):
    """Site → :class:`Gates` of the last forward pass, in order of execution; filled by :func:`capture`.

    Attributes:
        attentions: site → the attention that stands there, in order of definition, also those that have not run.
        sizes: site → (H, W) of the map that the gates are for, of those that have run.
    """

    def __init__(self, attentions: Mapping[str, GatedAttention]) -> None:
        self.attentions = dict(attentions)
        self.sizes: dict[str, tuple[int, int]] = {}
        self._gates: dict[str, Gates] = {}

    def __getitem__(self, site: str) -> Gates:
        if site in self._gates:
            return self._gates[site]
        if site in self.attentions:
            raise KeyError(f"the attention at {site!r} has not run: call the model inside 'with capture(model)'")
        raise KeyError(f"no attention at {site!r}; there is one at {', '.join(map(repr, self.attentions))}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._gates)

    def __len__(self) -> int:
        return len(self._gates)

    def __contains__(self, site: object) -> bool:
        return site in self._gates

    def __repr__(self) -> str:
        lines = [
            f"  {site!r}: {kind} {tuple(gate.shape)}"
            for site, gates in self._gates.items()
            for kind, gate in zip(gates._fields, gates, strict=True)
            if gate is not None
        ]
        return "\n".join([f"Seen: {len(self)} of {len(self.attentions)} attentions have run", *lines])

    def clear(self) -> None:
        """Forget everything seen so far."""
        self._gates.clear()
        self.sizes.clear()

    def note(self, site: str, gates: Gates, size: tuple[int, int]) -> None:
        """Remember the gates of one call, as the latest."""
        self._gates.pop(site, None)
        self._gates[site] = Gates(*(None if gate is None else gate.detach() for gate in gates))
        self.sizes[site] = size


@contextlib.contextmanager
def capture(model: nn.Module) -> Iterator[Seen]:
    """Listen to every attention of ``model`` inside a ``with`` block.

    Each forward pass replaces what the one before it left. Gates are detached and stay on their device; an attention that is called more
    than once in a pass keeps its last gates. What is inside an attention (the two parts of a CBAM) is not listed by itself.
    A model compiled by :func:`torch.compile` runs as plain Python inside the block. Afterwards the model is as before,
    also after an error; blocks may be nested.

    Args:
        model: a network with attentions, inserted by :func:`whatwhere.insert` or built in by hand; or an attention by itself, whose site is "".

    Yields:
        A mapping from site ("layer1.0.bn3") to :class:`Gates`, in order of execution.

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
    sites = attended(root)
    if not sites:
        without = sorted({type(attention).__name__ for attention in attentions(root).values()})
        if without:
            raise WhatwhereError(
                f"the attention of this {type(root).__name__} has no gates to listen to: {', '.join(without)} does not multiply the map by gates"
            )
        raise WhatwhereError(
            f"{type(root).__name__} has no attention to listen to: call whatwhere.insert(model, 'cbam') first, "
            f"or build a layer of whatwhere into it"
        )
    seen = Seen(sites)
    with contextlib.ExitStack() as undo:
        undo.enter_context(eager(model))
        start = root.register_forward_pre_hook(lambda *_: seen.clear())
        undo.callback(start.remove)
        for site, attention in sites.items():
            undo.callback(_restore, attention, vars(attention).get("gates"))
            vars(attention)["gates"] = _Listener(attention.gates, seen, site)
        yield seen


def attended(model: nn.Module) -> dict[str, GatedAttention]:
    """Return site → attention for the outermost attentions of ``model`` that have gates, in order of definition; {} where there are none."""
    root = unwrap(model)
    found = attentions(root).items()
    return {site.replace("_orig_mod.", ""): one for site, one in found if isinstance(one, GatedAttention)}


class _Listener:
    """Stands in for the ``gates`` method of one attention."""

    def __init__(self, gates: Any, seen: Seen, site: str) -> None:
        self.gates, self.seen, self.module = gates, seen, site

    def __call__(self, x: Tensor) -> Gates:
        gates: Gates = self.gates(x)
        self.seen.note(self.module, gates, (int(x.shape[-2]), int(x.shape[-1])))
        return gates


def _restore(attention: Attention, before: Any) -> None:
    if before is None:
        vars(attention).pop("gates", None)
    else:
        vars(attention)["gates"] = before
