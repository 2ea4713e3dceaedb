"""The figure of one caption: the image and the sentence; below, word by word, where it looked and what rose."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import need
from . import panels
from .boxes import WIDER, shorten
from .caption_gates import CaptionGates, GateScale, Rise, write_rises
from .figure import GAP, IMAGE, MARGIN, WIDTH

COLUMNS = 8
"""The most words beside each other; a longer sentence goes on below."""
WIDER_FROM = 7
"""With this many words beside each other or more, the figure is wider than two columns of a paper."""
WIDE = 9.4
"""The width that it has then, in inches."""
SCALE = 0.8
"""Space for a colour scale and its labels, in inches."""
SIDE = 1.35
"""The width that a word has at most, in inches."""
WORD, HEAD, BARS = 0.42, 0.24, 0.62
"""Heights of a word with its probability, of a heading, and of the bars of the channels, in inches."""
REFERENCES = 5
"""The most true sentences that are written."""


def draw(found: CaptionGates) -> Any:
    """Draw ``found`` as a matplotlib ``Figure``, without a display and without matplotlib's global state.

    Example:
        >>> from whatwhere.views.caption_gates import WordGates
        >>> words = (WordGates("a", -0.1, (), ()), WordGates("dog", -0.5, (), ()))
        >>> len(draw(CaptionGates(np.zeros((40, 60, 3), np.uint8), words, ())).axes)  # the image, two probabilities
        3
    """
    need("matplotlib", "look")
    import matplotlib

    with matplotlib.rc_context(panels.STYLE):
        return _Drawing(found).figure


def show_gate(axes: Any, image: NDArray[np.uint8], gates: NDArray[Any], scale: GateScale) -> None:
    """Show a spatial gate over the image, without a caption."""
    panels.gate(axes, image, scale.position(gates), scale, "")
    axes.texts[-1].remove()


class _Drawing:
    """The figure while it is drawn. Lengths are inches, positions those of the top left corner."""

    def __init__(self, found: CaptionGates) -> None:
        from matplotlib.figure import Figure

        self.found = found
        count = len(found.words)
        blocks = math.ceil(count / COLUMNS)
        columns = math.ceil(count / blocks)
        self.width: float = WIDE if columns >= WIDER_FROM else WIDTH
        self.scales = [found.scale(layer) for layer in range(len(found.layers))]
        self.rises = [found.rises(layer) for layer in range(len(found.layers))]
        self.gap: float = 0.1
        room = self.width - 2 * MARGIN - (SCALE if any(self.scales) else 0) - self.gap * (columns - 1)
        self.side: float = min(SIDE, room / columns)
        self.aspect: float = min(1.5, found.image.shape[0] / found.image.shape[1])
        # Texts are measured before the height is known: they need a figure, not its size.
        self.figure = Figure(figsize=(self.width, 10), facecolor="white")
        top = MARGIN + (0.28 if found.title else 0)
        image = (min(IMAGE, IMAGE * found.image.shape[1] / found.image.shape[0]), IMAGE * min(1.0, self.aspect))
        lines = self._sentences(MARGIN + image[0] + 2 * GAP)
        first = max(image[1], sum(height for *_, height in lines))
        starts = [top + first + 0.16 + i * self._block() for i in range(blocks + 1)]
        notes = self._notes()
        self.height = math.ceil((starts[-1] + 0.15 * len(notes) + MARGIN) * 50) / 50
        self.figure.set_size_inches(self.width, self.height)

        if found.title:
            text = self._write(MARGIN, 0.16, found.title, size=9.5, weight="bold")
            shorten(text, found.title, (self.width - 2 * MARGIN) * self.figure.dpi)
        panels.show(self._axes(MARGIN, top, *image), found.image, "")
        y = top
        for line, look, height in lines:
            self._write(MARGIN + image[0] + 2 * GAP, y + height / 2, line, **look)
            y += height
        for i, start in enumerate(starts[:-1]):
            self._draw_words(start, range(i * columns, min((i + 1) * columns, count)))
        for i, note in enumerate(notes):
            self._write(MARGIN, starts[-1] + 0.15 * i + 0.04, note, size=6.5, color=panels.GREY)

    def _sentences(self, left: float) -> list[tuple[str, dict[str, Any], float]]:
        """Return what is written beside the image: lines, how they look, and their heights."""
        found = self.found
        room = self.width - MARGIN - left
        big, small = {"size": 11, "weight": "bold"}, {"size": 7.5}
        lines: list[tuple[str, dict[str, Any], float]] = [
            (line, big, 0.2) for line in self._wrap(found.caption or "(no words)", room, **big)
        ]
        words = len(found.words)
        total = f"log-probability {_signed(found.log_probability)}, {_signed(found.log_probability / words)} a word"
        lines.append((total, {"size": 7.5, "color": panels.GREY}, 0.2))
        if found.references:
            lines.append(("", small, 0.08))
            lines.append(("true sentences", {"size": 7.5, "color": panels.GREY}, 0.16))
            for sentence in found.references[:REFERENCES]:
                lines += [(line, small, 0.145) for line in self._wrap(sentence, room, **small)]
            more = len(found.references) - REFERENCES
            if more > 0:
                lines.append((f"and {more} more", {"size": 7.5, "color": panels.GREY}, 0.145))
        return lines

    def _notes(self) -> list[str]:
        """Return the sentences that say how to read the figure."""
        notes = ["Bar below a word: its probability, given the words before."]
        if any(self.scales):
            notes[0] += " Colours: how much a position counts; 1 is the mean of all positions. One scale per layer."
        if any(self.found.channels(layer) for layer in range(len(self.found.layers))):
            notes.append(
                "Channels: those whose gates rose the most since the word before; for the first word, above 1."
            )
        return [line for note in notes for line in self._wrap(note, self.width - 2 * MARGIN, size=6.5)]

    def _block(self) -> float:
        """Return the height of a block of words."""
        height = WORD + 0.2
        for layer, scale in enumerate(self.scales):
            height += HEAD + self.side * self.aspect + 0.04 if scale else 0
            height += HEAD + BARS + 0.06 if self.found.channels(layer) else 0
        return height

    def _draw_words(self, y: float, block: Sequence[int]) -> None:
        """Draw the words of ``block`` beside each other, from ``y`` on."""
        found = self.found
        lefts = [MARGIN + i * (self.side + self.gap) for i in range(len(block))]
        for x, number in zip(lefts, block, strict=True):
            word = found.words[number]
            self._draw_word(x, y, word.word, word.log_probability)
        y += WORD
        for layer, (name, scale) in enumerate(zip(found.layers, self.scales, strict=True)):
            if scale:
                y = self._draw_where(y, lefts, block, layer, scale)
            if found.channels(layer):
                y = self._draw_what(y, lefts, block, layer, "" if scale else name)

    def _draw_word(self, x: float, y: float, word: str, log_probability: float) -> None:
        text = self._write(x, y + 0.09, "", size=9, weight="bold")
        shorten(text, word, self.side * self.figure.dpi)
        self._write(x, y + 0.24, f"log p {_signed(log_probability)}", size=6.5, color=panels.GREY)
        axes = self._axes(x, y + 0.33, self.side, 0.035)
        axes.barh(0, 1, 1, color="#efefef")
        axes.barh(0, min(1.0, math.exp(min(0.0, log_probability))), 1, color="#3b6ea5")
        axes.set(xlim=(0, 1), ylim=(-0.5, 0.5))
        _bare(axes)

    def _draw_where(
        self, y: float, lefts: Sequence[float], block: Sequence[int], layer: int, scale: GateScale
    ) -> float:
        """Draw a layer's spatial gates over the image; return where the next row starts."""
        gates = self.found.spatial(layer)
        rows, columns = next(gate.shape for gate in gates if gate is not None)
        self._head(y, self.found.layers[layer], f"where: {rows} × {columns} positions")
        y += HEAD
        height: float = self.side * self.aspect
        for x, number in zip(lefts, block, strict=True):
            gate = gates[number]
            axes = self._axes(x, y, self.side, height)
            if gate is None:
                panels.show(axes, self.found.image, "")
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
                axes.text(0.03, 0.04, "no gate", transform=axes.transAxes, size=6.5, color=panels.GREY, bbox=box)
            else:
                show_gate(axes, self.found.image, gate, scale)
        axes = self._axes(lefts[-1] + self.side + 0.08, y, 0.08, height)
        panels.colours(self.figure, axes, scale)
        axes.set_yticks([place for place, _ in scale.marks], labels=[label for _, label in scale.marks])
        return y + height + 0.04

    def _draw_what(self, y: float, lefts: Sequence[float], block: Sequence[int], layer: int, name: str) -> float:
        """Draw how much the channels of a layer rose that rose the most; return where the next row starts."""
        rises = self.rises[layer]
        count = self.found.channels(layer)
        self._head(y, name, f"what: the channels of {count} that rose the most")
        y += HEAD
        most = max((one.by for word in rises for one in word or ()), default=1.0)
        letters = 0.07 + 0.052 * len(str(count - 1))
        for x, number in zip(lefts, block, strict=True):
            axes = self._axes(x + letters, y, self.side - letters, BARS)
            _show_rises(axes, rises[number], write_rises(rises)[number], most)
        return y + BARS + 0.06

    def _head(self, y: float, name: str, rest: str) -> None:
        """Write a heading."""
        x = MARGIN
        if name:
            text = self._write(x, y + 0.12, "", size=8, weight="bold")
            shorten(text, name, self.width * self.figure.dpi / 2)
            x += text.get_window_extent().width / self.figure.dpi + 0.08
        self._write(x, y + 0.12, rest, size=7.5, color=panels.GREY)

    def _axes(self, x: float, y: float, width: float, height: float) -> Any:
        box = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def _write(self, x: float, y: float, words: str, **look: Any) -> Any:
        """Write a line whose middle is at ``y``; a dollar sign in it is a dollar sign."""
        at = (x / self.width, 1 - y / self.height)
        return self.figure.text(*at, words, va="center", parse_math=False, **look)

    def _wrap(self, sentence: str, room: float, **look: Any) -> list[str]:
        """Cut a sentence into lines that are at most ``room`` wide."""
        text = self.figure.text(0, 0, "", parse_math=False, **look)

        def fits(words: str) -> bool:
            text.set_text(words)
            return bool(WIDER * text.get_window_extent().width <= room * self.figure.dpi)

        lines: list[str] = []
        for word in sentence.split():
            if lines and fits(f"{lines[-1]} {word}"):
                lines[-1] += f" {word}"
                continue
            shorten(text, word, room * self.figure.dpi)
            lines.append(text.get_text())
        text.remove()
        return lines


def _show_rises(axes: Any, rises: Sequence[Rise] | None, labels: Sequence[str], most: float) -> None:
    """Show bars, the largest rise on top; ``most`` is the largest of all words."""
    axes.set(xlim=(0, most), ylim=(4.5, -0.5))
    _bare(axes)
    if not rises:
        said = "no gates" if rises is None else "none rose"
        axes.text(0, 0, said, size=6.5, color=panels.GREY, va="center")
        return
    axes.set_xlim(0, most / 0.6)  # the rest is for the numbers after the bars
    axes.axvline(0, color=panels.GREY, lw=0.6)
    axes.barh(range(len(rises)), [one.by for one in rises], 0.66, color=panels.MORE, alpha=0.75)
    for row, (one, label) in enumerate(zip(rises, labels, strict=True)):
        axes.annotate(
            label, (one.by, row), (2, 0), textcoords="offset points", size=5.6, va="center", color=panels.GREY
        )
    axes.set_yticks(range(len(rises)), labels=[str(one.channel) for one in rises])
    axes.tick_params(axis="y", length=0, pad=2, labelsize=6, labelcolor=panels.INK)


def _bare(axes: Any) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _signed(number: float) -> str:
    return f"{number:.2f}".replace("-", "−")
