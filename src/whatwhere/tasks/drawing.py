"""A drawn result."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..views.result import figure_png, save_figure


@dataclass(frozen=True)
class Drawing:
    """What a network makes of one image, drawn.

    Attributes:
        caption: what the network says, in a few words: ``seven (85.3%)``.
        figure: a matplotlib ``Figure``; None where ``source`` makes it.
        source: a view with a ``save`` of its own, which knows more formats than a figure has.
    """

    caption: str
    figure: Any = field(repr=False)
    source: Any = field(default=None, repr=False)

    def _repr_png_(self) -> bytes | None:
        return figure_png(self.figure if self.source is None else self.source.figure)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the figure as PNG, PDF or SVG, or in another format that the view has, whole or not at all; return the
        path.

        Raises:
            WhatwhereError: another suffix than these, or a path that cannot be written.
        """
        if self.source is not None:
            return Path(self.source.save(path))
        return save_figure(self.figure, path)
