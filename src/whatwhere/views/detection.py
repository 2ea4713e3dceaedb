"""What a detector sees in one image."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import WhatwhereError, closest, require
from ..graph.guard import evaluation_mode
from ..graph.wrappers import unwrap
from . import panels
from .box_cam import box_grad_cam
from .boxes import Drawn, count_words, describe, draw_boxes, legend
from .capture import attended, capture
from .figure import GAP, MARGIN, WIDTH, draw_gates
from .look import views_of
from .result import View, figure_png, save_figure

PANEL = 2.7
"""Width of the image and of Grad-CAM in a figure, in inches."""
TALLEST = 3.4
"""The height that an image has at most, in inches."""
LOWEST = 1.35
"""The height of the first row at least, in inches: the list of what was found needs it."""

Match = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None], Any]
"""From boxes, labels, scores, true boxes, true labels and ignored objects to ``hits``, ``false_alarms``, ``misses``."""


@dataclass(frozen=True)
class DetectionLook:
    """What a detector finds in one image, as :func:`look_at_boxes` returns it.

    Attributes:
        boxes: ``(n, 4)``: x1, y1, x2, y2 in pixels of ``image``, the highest score first.
        labels: the class of each box.
        scores: ``(n,)``.
        drawn: the boxes as they are drawn: hits, misses and false alarms where the truth is known.
        counts: how many of each kind.
        target: the number of the box that Grad-CAM is for; None where nothing was found.
        grad_cam: Grad-CAM ``(H, W)`` in [0, 1], H and W those of ``image`` with its margin; None without a box.
        views: the gates of every attention, their modules named without what all have in front.
        image: ``uint8 (h, w, 3)``.
        title: the line above the figure.
        figure: a matplotlib ``Figure``.

    Example:
        >>> box = torch.tensor([[1.0, 2.0, 20.0, 30.0]])
        >>> drawn = [Drawn(box[0].tolist(), "cat 0.93", "found")]
        >>> pixels = np.zeros((32, 32, 3), np.uint8)
        >>> DetectionLook(box, ["cat"], torch.tensor([0.93]), drawn, {"found": 1}, 0, None, [], pixels).caption
        'cat 0.93'
    """

    boxes: Tensor
    labels: list[str]
    scores: Tensor
    drawn: list[Drawn] = field(repr=False)
    counts: dict[str, int]
    target: int | None
    grad_cam: Tensor | None = field(repr=False)
    views: list[View] = field(repr=False)
    image: NDArray[np.uint8] = field(repr=False)
    title: str | None = None
    figure: Any = field(default=None, repr=False)

    @property
    def caption(self) -> str:
        """What was found, in words."""
        if "hit" in self.counts:
            return ", ".join(count_words(count, kind) for kind, count in self.counts.items())
        shown = ", ".join(f"{name} {score:.2f}" for name, score in zip(self.labels[:4], self.scores, strict=False))
        return (shown or "nothing") + (f" and {len(self.labels) - 4} more" if len(self.labels) > 4 else "")

    def _repr_png_(self) -> bytes | None:
        return figure_png(self.figure)

    def save(self, path: str | os.PathLike[str], *, dpi: int = 250) -> Path:
        """Write the figure as PNG, PDF or SVG, whole or not at all, and return the path."""
        return save_figure(self.figure, path, dpi=dpi)


def look_at_boxes(
    model: nn.Module,
    image: Tensor,
    pixels: NDArray[np.uint8],
    classes: Sequence[str],
    *,
    score: float = 0.3,
    target: int | str | None = None,
    truth: Mapping[str, Tensor] | None = None,
    match: Match | None = None,
    title: str | None = None,
) -> DetectionLook:
    """Show what a detector finds in one image: its boxes, Grad-CAM of one of them, and the gates.

    Args:
        model: one of torchvision's detectors, see :func:`whatwhere.networks.detectors.build_detector`; it is left as it
            was.
        image: ``(1, 3, H, W)``, as the model takes it.
        pixels: the same image as ``uint8 (h, w, 3)``, h ≤ H and w ≤ W: what the network saw right of it and below is a
            margin.
        classes: the names of the labels from 1 on.
        score: boxes with a lower score are not shown. Boxes without an area in the image are left out.
        target: the box that Grad-CAM is for: its number, 0 for that with the highest score, or the name of a class for
            its best box. By default the best box; where none has ``score``, the best of all.
        truth: ``boxes`` ``(k, 4)`` in pixels of the image, ``labels`` ``(k,)`` from 0, and ``ignored`` ``bool (k,)``
            where some are. A box on an ignored object is neither a hit nor a false alarm, and is not drawn.
        match: which boxes are hits; needed where ``truth`` is given.
        title: a line above the figure.

    Raises:
        WhatwhereError: a target that does not exist, more than one image, fewer names than the detector has classes,
            a truth without ``match``, or a missing package.

    Example:
        >>> import torch, whatwhere as ww
        >>> from whatwhere.networks.features import Features
        >>> from whatwhere.networks.detectors import DetectorShape, build_detector
        >>> body = Features(ww.build(ww.ModelConfig("small-resnet")), size=64, finest=4)
        >>> model = build_detector("fcos", body, DetectorShape(classes=2, size=64, channels=32))
        >>> pixels = torch.zeros(60, 64, 3, dtype=torch.uint8).numpy()
        >>> look_at_boxes(model, torch.zeros(1, 3, 64, 64), pixels, ["cat", "dog"], score=0.9).caption
        'nothing'
    """
    require(look=("matplotlib", "pytorch_grad_cam"))
    if image.dim() != 4 or len(image) != 1:
        raise WhatwhereError(f"one image (1, 3, H, W) is needed, got {tuple(image.shape)}")
    if truth is not None and match is None:
        raise WhatwhereError("a truth needs match, which says which boxes are hits")
    root = unwrap(model)
    with evaluation_mode(root, freeze=True), torch.inference_mode(False), torch.no_grad():
        if attended(root):
            with capture(root) as seen:
                (found,) = root(image)
            views = [replace(view, module=_short(view.module)) for view in views_of(seen)]
        else:
            (found,), views = root(image), []
    limit = torch.tensor([pixels.shape[1], pixels.shape[0]] * 2, dtype=torch.float32)
    boxes = found["boxes"].float().cpu().clamp(min=torch.zeros(4), max=limit)
    inside = ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).nonzero().flatten()
    boxes = boxes[inside]
    labels, scores = found["labels"].cpu()[inside] - 1, found["scores"].float().cpu()[inside]
    if len(labels) and int(labels.max()) >= len(classes):
        raise WhatwhereError(f"the detector found label {int(labels.max()) + 1}, but classes has only {len(classes)}")
    names = [classes[label] for label in labels.tolist()]
    shown = scores >= score
    chosen = _target(target, names, int(shown.sum()), score)
    drawn, counts = _kinds(boxes[shown], labels[shown], scores[shown], classes, truth, match)
    look = DetectionLook(
        boxes=boxes[shown],
        labels=[name for name, keep in zip(names, shown.tolist(), strict=True) if keep],
        scores=scores[shown],
        drawn=drawn,
        counts=counts,
        target=chosen,
        grad_cam=None if chosen is None else box_grad_cam(root, image, int(inside[chosen])),
        views=views,
        image=pixels,
        title=title,
    )
    aimed, words = None, ""
    if chosen is not None:
        box, value = boxes[chosen].tolist(), float(scores[chosen])
        same = (one.kind for one in drawn if (one.box, one.text) == (box, f"{names[chosen]} {value:.2f}"))
        aimed = Drawn(box, "", next(same, "found"))
        words = f"{panels.short(names[chosen], 20)} {value:.2f}"
    object.__setattr__(look, "figure", _draw(look, (int(image.shape[2]), int(image.shape[3])), aimed, words, score))
    return look


def _short(module: str) -> str:
    """Return the name of a module without what all of a backbone's have in front."""
    return module.removeprefix("backbone.").removeprefix("body.network.")


def _target(target: int | str | None, names: Sequence[str], shown: int, score: float) -> int | None:
    """Return the number of the box that is meant; None where there is no box."""
    if target is None:
        return 0 if names else None
    if isinstance(target, str) and target in names:
        return names.index(target)
    if isinstance(target, str) and target.isdecimal():
        target = int(target)
    if isinstance(target, int) and 0 <= target < len(names):
        return target
    if not names:
        raise WhatwhereError(f"target {target!r}: the detector finds no box in this image")
    there = ", ".join(dict.fromkeys(names))
    hint = closest(target, names) if isinstance(target, str) else ""
    raise WhatwhereError(
        f"target {target!r} is neither the number of a box, 0 to {len(names) - 1} here ({shown} with a score of at "
        f"least {score:g}), nor a class that was found: {there}{hint}"
    )


def _kinds(
    boxes: Tensor,
    labels: Tensor,
    scores: Tensor,
    classes: Sequence[str],
    truth: Mapping[str, Tensor] | None,
    match: Match | None,
) -> tuple[list[Drawn], dict[str, int]]:
    """Return the boxes to be drawn and how many there are of each kind."""
    texts = [f"{classes[n]} {s:.2f}" for n, s in zip(labels.tolist(), scores.tolist(), strict=True)]
    if truth is None or match is None:
        return [Drawn(box, text, "found") for box, text in zip(boxes.tolist(), texts, strict=True)], {
            "found": len(boxes)
        }
    found = match(boxes, labels, scores, truth["boxes"], truth["labels"], truth.get("ignored"))
    missed = [Drawn(truth["boxes"][k].tolist(), classes[int(truth["labels"][k])], "miss") for k in found.misses]
    alarms = [Drawn(boxes[i].tolist(), texts[i], "false alarm") for i in found.false_alarms]
    hits = [Drawn(boxes[i].tolist(), texts[i], "hit") for i, _ in found.hits]
    return missed + alarms + hits, {"hit": len(hits), "miss": len(missed), "false alarm": len(alarms)}


def _draw(look: DetectionLook, covers: tuple[int, int], aimed: Drawn | None, words: str, score: float) -> Any:
    import matplotlib

    with matplotlib.rc_context(panels.STYLE):
        height = max(LOWEST, min(TALLEST, PANEL * look.image.shape[0] / look.image.shape[1]))
        figure, plan = draw_gates(look.image, look.views, look.title, first=height, covers=covers)
        axes = plan.axes(figure, MARGIN, plan.top, PANEL, height)
        panels.show(axes, look.image, "")
        draw_boxes(axes, look.drawn)
        legend(axes, look.counts)
        second = MARGIN + PANEL + GAP
        axes = plan.axes(figure, second, plan.top, PANEL, height)
        if look.grad_cam is None or aimed is None:
            panels.show(axes, look.image, "no box, so no Grad-CAM")
        else:
            low = "" if len(look.scores) else f", below {score:g}"
            panels.heat(axes, look.image, look.grad_cam.numpy(), f"Grad-CAM for “{words}”{low}", covers)
            draw_boxes(axes, [aimed])
        third = second + PANEL + 1.5 * GAP
        best: dict[str, tuple[int, float]] = {}
        for name, value in zip(look.labels, look.scores.tolist(), strict=True):
            count, highest = best.get(name, (0, value))
            best[name] = (count + 1, highest)
        rows = [(name, *pair) for name, pair in best.items()]
        describe(plan.axes(figure, third, plan.top, WIDTH - MARGIN - third, height), rows, score)
        return figure
