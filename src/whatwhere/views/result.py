"""The result of :func:`look`."""

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import files
from ..errors import WhatwhereError, need
from ..layers import Gates

FORMATS = ("png", "pdf", "svg")


@dataclass(frozen=True)
class View:
    """The gates of one attention for the image.

    Attributes:
        module: name of the module that the attention stands at.
        gates: its gates, on the CPU.
        size: (H, W) of the map that they multiply.
        neutral: the gate of an attention that has learned nothing: 1 with the identity start, else the gate of z = 0.
        channel_neutral: the same for the channel gate.

    Example:
        >>> import torch
        >>> View("layer1", Gates(channel=torch.ones(1, 8, 1, 1)), (14, 14), 1.0, 1.0).size
        (14, 14)
    """

    module: str
    gates: Gates
    size: tuple[int, int]
    neutral: float
    channel_neutral: float


@dataclass(frozen=True)
class Look:
    """What a classifier sees in one image, as :func:`look` returns it.

    Attributes:
        prediction: the name of the predicted class.
        confidence: its probability.
        top: the names and probabilities of the most likely classes.
        target: the name of the class that Grad-CAM is for.
        grad_cam: Grad-CAM, ``(H, W)`` in [0, 1].
        views: the gates of every attention, in order of execution.
        image: what the network saw, ``uint8 (H, W, 3)``.
        title: the line above the figure.
        figure: a matplotlib ``Figure``.

    Example:
        >>> import torch, torchvision, whatwhere as ww
        >>> found = ww.look(torchvision.models.resnet18(num_classes=2), torch.rand(3, 64, 64), classes=["cat", "dog"])
        >>> found.image.shape, sorted(name for name, _ in found.top), found.gates
        ((224, 224, 3), ['cat', 'dog'], {})
    """

    prediction: str
    confidence: float
    top: list[tuple[str, float]]
    target: str
    grad_cam: Tensor = field(repr=False)
    views: list[View] = field(repr=False)
    image: Any = field(repr=False)
    title: str | None = None
    figure: Any = field(default=None, repr=False)

    @property
    def gates(self) -> dict[str, Gates]:
        """Module name → gates, in order of execution."""
        return {view.module: view.gates for view in self.views}

    def _repr_png_(self) -> bytes | None:
        return figure_png(self.figure)

    def save(self, path: str | os.PathLike[str], *, dpi: int = 250) -> Path:
        """Write the figure as PNG, PDF or SVG, whole or not at all, and return the path. Missing folders are made.

        Raises:
            WhatwhereError: another suffix, or a path that cannot be written.
        """
        return save_figure(self.figure, path, dpi=dpi)


def figure_png(figure: Any) -> bytes | None:
    """Return a matplotlib figure as PNG for a notebook; None where there is no figure."""
    if figure is None:
        return None
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def save_figure(figure: Any, path: str | os.PathLike[str], *, dpi: int = 250) -> Path:
    """Write a matplotlib figure as PNG, PDF or SVG, whole or not at all, and return the path. Missing folders are made.

    Raises:
        WhatwhereError: another suffix than these, or a path that cannot be written.
    """
    target = Path(path)
    kind = target.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise WhatwhereError(f"figures are saved as {', '.join('.' + f for f in FORMATS)}, got {target.name!r}")
    matplotlib = need("matplotlib", "look")
    content = io.BytesIO()
    dates = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}  # the same figure is the same file
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "whatwhere"}):
        figure.savefig(content, format=kind, dpi=dpi, metadata=dates[kind])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(target, content.getvalue())
    except OSError as error:
        raise WhatwhereError(f"{target} cannot be written: {error}") from error
    return target
