"""A caption as an animated GIF: one frame a word."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import need
from . import panels
from .boxes import shorten
from .caption_figure import show_gate
from .caption_gates import END, CaptionGates

LONGEST = 480
"""The longest side of a frame, in pixels."""
DPI = 100
SECONDS, PAUSE = 1.1, 2.2
"""How long a frame is shown, and the last one."""
GREYS = 16
"""How many of a GIF's 256 colours are greys."""
FOOT, NAMES, GAP, LEAST = 60, 18, 6, 240
"""Pixels: height of what is written below, height of the layers' names, space between layers, least width."""


def make_gif(found: CaptionGates) -> bytes:
    """Return a GIF that shows one word after the other, over and over.

    Each frame has the spatial gates of all layers over the image, the word, and the sentence as far as it was written.

    Raises:
        MissingExtra: Pillow or matplotlib is not installed.

    Example:
        >>> from PIL import Image
        >>> from whatwhere.views.caption_gates import WordGates
        >>> words = (WordGates("a", -0.1, (), ()), WordGates("dog", -0.5, (), ()))
        >>> Image.open(io.BytesIO(make_gif(CaptionGates(np.zeros((40, 60, 3), np.uint8), words, ())))).n_frames
        2
    """
    images = need("PIL.Image", "look")
    drawn = [draw_frame(found, number) for number in range(len(found.words))]
    # All frames have the same colours, so that what does not change is written once; greys are for the letters.
    some = images.fromarray(np.concatenate([frame[::2, ::2] for frame in drawn])).quantize(
        256 - GREYS, images.Quantize.MAXCOVERAGE
    )
    palette = images.new("P", (1, 1))
    palette.putpalette(
        some.getpalette()[: 3 * (256 - GREYS)] + np.linspace(0, 255, GREYS).repeat(3).astype(int).tolist()
    )
    frames = [images.fromarray(frame).quantize(palette=palette, dither=images.Dither.FLOYDSTEINBERG) for frame in drawn]
    times = [round(1000 * SECONDS)] * (len(frames) - 1) + [round(1000 * PAUSE)]
    content = io.BytesIO()
    frames[0].save(content, "gif", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return content.getvalue()


def draw_frame(found: CaptionGates, number: int) -> NDArray[np.uint8]:
    """Return the frame of a word as ``uint8 (H, W, 3)``, neither side longer than :data:`LONGEST`.

    Example:
        >>> from whatwhere.views.caption_gates import WordGates
        >>> draw_frame(CaptionGates(np.zeros((480, 640, 3), np.uint8), (WordGates("a", -0.1, (), ()),), ()), 0).shape
        (420, 480, 3)
    """
    need("matplotlib", "look")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    where = [layer for layer in range(len(found.layers)) if found.scale(layer)]
    across = max(1, len(where))
    names = NAMES if where else 0
    ratio = found.image.shape[0] / found.image.shape[1]
    side = min((LONGEST - GAP * (across - 1)) / across, (LONGEST - FOOT - names) / ratio)
    shown = round(side * across + GAP * (across - 1))
    width, height = max(LEAST, shown), round(side * ratio) + names + FOOT
    with matplotlib.rc_context(panels.STYLE):
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        for i in range(across):
            x = (width - shown) / 2 + i * (side + GAP)
            box = (x / width, (names + FOOT) / height, side / width, round(side * ratio) / height)
            axes = figure.add_axes(box)
            scale = found.scale(where[i]) if where else None
            gate = found.spatial(where[i])[number] if where else None
            if gate is None or scale is None:
                panels.show(axes, found.image, "")
            else:
                show_gate(axes, found.image, gate, scale)
            if where:
                at = ((x + side / 2) / width, (FOOT + names / 2 - 1) / height)
                text = figure.text(*at, "", size=7, color=panels.GREY, ha="center", va="center", parse_math=False)
                shorten(text, found.layers[where[i]], side)
        _write_words(figure, found, number, width, height)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _write_words(figure: Any, found: CaptionGates, number: int, width: int, height: int) -> None:
    """Write the word, how far the sentence is, and the end of what is written of it."""
    from matplotlib.patches import Rectangle

    word = found.words[number]
    text = figure.text(8 / width, 40 / height, "", size=14, weight="bold", va="center", parse_math=False)
    shorten(text, word.word, width - 100)
    said = f"log p {word.log_probability:.2f}".replace("-", "−")
    figure.text(1 - 8 / width, 40 / height, said, size=8, color=panels.GREY, ha="right", va="center")
    written = [one.word for one in found.words[: number + 1] if one.word != END]
    text = figure.text(8 / width, 16 / height, "", size=8.5, va="center", color=panels.GREY, parse_math=False)
    cut = False
    while True:
        text.set_text(("… " if cut else "") + " ".join(written))
        if len(written) < 2 or text.get_window_extent().width <= width - 16:
            break
        written, cut = written[1:], True
    shorten(text, text.get_text(), width - 16)
    figure.add_artist(Rectangle((0, 0), 1, 4 / height, color="#efefef", lw=0))
    figure.add_artist(Rectangle((0, 0), (number + 1) / len(found.words), 4 / height, color="#3b6ea5", lw=0))
