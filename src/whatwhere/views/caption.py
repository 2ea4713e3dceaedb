"""What a captioner looks at while it writes a sentence."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import files
from ..errors import WhatwhereError
from .caption_figure import draw
from .caption_frames import make_gif
from .caption_gates import CaptionGates, WordGates
from .caption_page import make_page
from .result import FORMATS, figure_png, save_figure

__all__ = ["CaptionLook", "WordGates"]

ANIMATED: dict[str, Callable[[CaptionGates], bytes]] = {
    "html": lambda found: make_page(found).encode(),
    "gif": make_gif,
}


@dataclass(frozen=True)
class CaptionLook(CaptionGates):
    """What a captioner looked at while it wrote a sentence: where in the image, and which channels, for each word.

    Attributes:
        image: ``uint8 (H, W, 3)``, as shown.
        words: the words in order, with their gates; the last may be the end of the sentence, ``"<end>"``.
        layers: names of the attended layers; empty for a network without attention.
        references: true sentences, if known.
        title: the line above the figure.
        caption: the sentence, without its end.
        figure: a matplotlib ``Figure``.

    Raises:
        WhatwhereError: no words, a word whose gates are not one per layer, or gates that are not finite, have other
            dimensions than they should, or another size than those of the words before.

    Example:
        >>> import numpy as np, tempfile, torch
        >>> image = np.zeros((48, 64, 3), np.uint8)
        >>> words = [WordGates(word, -0.5, (torch.ones(7, 7),), (torch.ones(8),)) for word in ("a", "dog", "<end>")]
        >>> found = CaptionLook(image, tuple(words), ("layer4",), references=("a brown dog",))
        >>> found.caption
        'a dog'
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found.save(f"{folder}/dog.html").name
        'dog.html'
    """

    @cached_property
    def figure(self) -> Any:
        """A matplotlib ``Figure`` of all words. It is made when it is first asked for."""
        return draw(self)

    def _repr_png_(self) -> bytes | None:
        return figure_png(self.figure)

    def save(self, path: str | os.PathLike[str], *, dpi: int = 250) -> Path:
        """Write the figure, an animated page or an animated image, whole or not at all, and return the path.

        Args:
            path: ``.png``, ``.pdf`` or ``.svg`` for the figure; ``.html`` for a page with one word at a time, which
                needs no file beside it and no network; ``.gif`` for an image with one word at a time. Missing folders
                are made.
            dpi: of the figure.

        Raises:
            WhatwhereError: another suffix, a path that cannot be written, or a missing package.
        """
        target = Path(path)
        kind = target.suffix.lower().removeprefix(".")
        if kind in FORMATS:
            return save_figure(self.figure, target, dpi=dpi)
        if kind not in ANIMATED:
            allowed = ", ".join(f".{one}" for one in (*FORMATS, *ANIMATED))
            raise WhatwhereError(f"captions are saved as {allowed}, got {target.name!r}")
        content = ANIMATED[kind](self)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(target, content)
        except OSError as error:
            raise WhatwhereError(f"{target} cannot be written: {error}") from error
        return target
