"""What a captioner attended to, word by word: the gates, checked, and what changed from one word to the next."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import WhatwhereError
from .panels import Scale, round_up

END = "<end>"
"""The word that closes a sentence. It is drawn, but is no part of the caption."""
RISES = 5
"""How many channels are shown for a word."""


@dataclass(frozen=True)
class WordGates:
    """What a captioner attended to when it wrote one word.

    Attributes:
        word: the word; ``"<end>"`` for the end of the sentence.
        log_probability: its natural logarithm, given the words before.
        spatial: the spatial gate of each attended layer, ``(h, w)`` with a mean of 1 over positions, or None.
        channel: the channel gates of each attended layer, ``(C,)`` with a mean of 1 over channels, or None.

    Example:
        >>> WordGates("dog", -0.5, (torch.ones(7, 7),), (None,)).spatial[0].shape
        torch.Size([7, 7])
    """

    word: str
    log_probability: float
    spatial: tuple[Tensor | None, ...] = field(repr=False)
    channel: tuple[Tensor | None, ...] = field(repr=False)


class Rise(NamedTuple):
    """A channel whose gate rose: its number, its gate for the word before, and its gate now."""

    channel: int
    before: float
    now: float

    @property
    def by(self) -> float:
        """How much the gate rose."""
        return self.now - self.before


@dataclass(frozen=True)
class GateScale(Scale):
    """One colour scale for all spatial gates of a layer: white at 1, linear below it and linear above it.

    Where no gate is above 2 both sides have the same range. Else blue ends at 0 and red at ``top``, so that both sides
    have all their colours: a gate's position on the scale is then no longer the gate itself.

    Example:
        >>> scale = GateScale.of([np.array([[0.1, 6.9]])])
        >>> scale.top, scale.position(np.array([0.5, 1.0, 6.9])).tolist(), scale.write(1.5)
        (6.9, [0.5, 1.0, 2.0], '3.95')
    """

    top: float = 2.0

    @classmethod
    def of(cls, gates: Sequence[NDArray[Any]]) -> "GateScale":
        """Return the smallest scale that covers all ``gates``."""
        farthest = max(max(float(np.abs(gate - 1).max()) for gate in gates), 0.01)
        half = round_up(farthest)
        return cls(1.0, half, 1 + half) if half <= 1 else cls(1.0, 1.0, round_up(1 + farthest))

    def position(self, gates: NDArray[Any]) -> NDArray[Any]:
        """Return where gates stand between the :attr:`ends` of the scale."""
        placed = np.where(gates > 1, 1 + (gates - 1) * (self.half / (self.top - 1)), gates)
        return placed.clip(*self.ends)

    def write(self, gate: float) -> str:
        """Write the gate that stands at a position."""
        return super().write(self._at(gate))

    @property
    def marks(self) -> list[tuple[float, str]]:
        """The positions to be marked on the colour scale, and what they mean."""
        places = [0.0, 1.0, 2.0] if self.half == 1 else self.ticks
        return [(place, f"× {self._at(place):.4g}{' (mean)' if place == 1 else ''}") for place in places]

    def _at(self, position: float) -> float:
        return position if position <= 1 else 1 + (position - 1) * (self.top - 1) / self.half


@dataclass(frozen=True)
class CaptionGates:
    """A caption as it was written: the image, the words and their gates. It is checked when it is made.

    Attributes:
        image: ``uint8 (H, W, 3)``, as shown.
        words: the words in order; the last may be the end of the sentence, ``"<end>"``.
        layers: names of the attended layers; empty for a network without attention.
        references: true sentences, if known.
        title: the line above the figure.

    Raises:
        WhatwhereError: no words, a word whose gates are not one per layer, or gates that are not finite, have other
            dimensions than these, or another size than those of the words before.

    Example:
        >>> words = (WordGates("a", -0.1, (), ()), WordGates("dog", -0.5, (), ()), WordGates("<end>", -0.2, (), ()))
        >>> CaptionGates(np.zeros((32, 32, 3), np.uint8), words, ()).caption
        'a dog'
    """

    image: NDArray[np.uint8] = field(repr=False)
    words: tuple[WordGates, ...]
    layers: tuple[str, ...]
    references: tuple[str, ...] = ()
    title: str | None = None

    def __post_init__(self) -> None:
        image = self.image
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            came = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise WhatwhereError(f"an image is an array uint8 (H, W, 3), got {came}")
        if image.size == 0:
            raise WhatwhereError(f"an image has at least one pixel, got {image.shape}")
        for name in ("layers", "references"):
            if isinstance(getattr(self, name), str):
                raise WhatwhereError(f"{name} is a tuple of strings, got the string {getattr(self, name)!r}")
        if not self.words:
            raise WhatwhereError(f"a caption has at least one word, {END!r} where the sentence is empty; got none")
        for number, word in enumerate(self.words):
            if not math.isfinite(word.log_probability):
                raise WhatwhereError(
                    f"{_name(number, word)}: its log-probability is {word.log_probability}, not finite"
                )
            self._check(number, "spatial", "(h, w)")
            self._check(number, "channel", "(C,)")

    def _check(self, number: int, kind: str, allowed: str) -> None:
        """Check one word's spatial or channel gates."""
        word = self.words[number]
        gates = getattr(word, kind)
        name = _name(number, word)
        if not isinstance(gates, (tuple, list)) or len(gates) != len(self.layers):
            came = len(gates) if isinstance(gates, (tuple, list)) else f"a {type(gates).__name__}"
            raise WhatwhereError(
                f"{name}: {kind} has one entry per attended layer ({', '.join(self.layers) or 'none'}), "
                f"{len(self.layers)} in all, got {came}"
            )
        for i, (layer, gate) in enumerate(zip(self.layers, gates, strict=True)):
            what = f"{name}: the {kind} gate of {layer}"
            if gate is None:
                continue
            if not isinstance(gate, Tensor):
                raise WhatwhereError(f"{what} is a tensor {allowed} or None, got {type(gate).__name__}")
            if gate.dim() != allowed.count(",") + (kind == "spatial") or gate.numel() == 0:
                raise WhatwhereError(f"{what} is a tensor {allowed}, got {tuple(gate.shape)}")
            if not bool(torch.isfinite(gate).all()):
                wrong = int((~torch.isfinite(gate)).sum())
                raise WhatwhereError(f"{what} has {wrong} of {gate.numel()} entries that are not finite numbers")
            earlier = (getattr(one, kind)[i] for one in self.words[:number])
            shape = next((one.shape for one in earlier if one is not None), gate.shape)
            if gate.shape != shape:
                raise WhatwhereError(
                    f"{what} has the size of the words' before, {tuple(shape)}, got {tuple(gate.shape)}"
                )

    @property
    def caption(self) -> str:
        """The sentence, without its end."""
        return " ".join(word.word for word in self.words if word.word != END)

    @property
    def log_probability(self) -> float:
        """The log-probability of the whole sentence."""
        return sum(word.log_probability for word in self.words)

    def spatial(self, layer: int) -> list[NDArray[Any] | None]:
        """Return the spatial gate of a layer for each word, by the layer's number."""
        return [_array(word.spatial[layer]) for word in self.words]

    def scale(self, layer: int) -> GateScale | None:
        """Return the colour scale that a layer's spatial gates have for all words; None for a layer without them."""
        gates = [gate for gate in self.spatial(layer) if gate is not None]
        return GateScale.of(gates) if gates else None

    def rises(self, layer: int) -> list[list[Rise] | None]:
        """Return for each word the channels of a layer that rose the most, the largest rise first.

        A word is compared with the one before it; the first, and one after a word without channel gates, with 1. None
        stands for a word without channel gates.
        """
        found: list[list[Rise] | None] = []
        last: NDArray[Any] | None = None
        for word in self.words:
            gates = _array(word.channel[layer])
            if gates is None:
                found.append(None)
            else:
                before = np.ones_like(gates) if last is None else last
                order = np.argsort(before - gates, kind="stable")[:RISES]
                most = [Rise(int(i), float(before[i]), float(gates[i])) for i in order]
                found.append([one for one in most if one.by > 0])
            last = gates
        return found

    def channels(self, layer: int) -> int:
        """Return how many channels a layer has; 0 where it has no channel gates."""
        return next((len(gates) for word in self.words if (gates := word.channel[layer]) is not None), 0)


def write_rises(rises: Sequence[Sequence[Rise] | None]) -> list[list[str]]:
    """Write the rises of all words of a layer, with as many digits as the largest needs.

    Example:
        >>> write_rises([[Rise(3, 1.0, 2.5), Rise(8, 1.0, 1.25)], None])
        [['+1.50', '+0.25'], []]
    """
    largest = max((one.by for word in rises for one in word or ()), default=1.0)
    digits = min(5, max(2, 1 - math.floor(math.log10(largest))))
    return [[f"+{one.by:.{digits}f}" for one in word or ()] for word in rises]


def _array(gate: Tensor | None) -> NDArray[Any] | None:
    return None if gate is None else gate.detach().to("cpu", torch.float32).numpy()


def _name(number: int, word: WordGates) -> str:
    return f"word {number + 1}, {word.word!r}"
