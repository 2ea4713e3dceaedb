"""Which boxes of one image are hits, which are false alarms, and which objects are missed."""

from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import need


class Matches(NamedTuple):
    """What became of the boxes and the objects of one image.

    Attributes:
        hits: pairs (box, object).
        false_alarms: boxes without an object.
        misses: objects without a box.
    """

    hits: list[tuple[int, int]]
    false_alarms: list[int]
    misses: list[int]


def match(
    boxes: Tensor,
    labels: Tensor,
    scores: Tensor,
    true_boxes: Tensor,
    true_labels: Tensor,
    ignored: Tensor | None = None,
    overlap: float = 0.5,
) -> Matches:
    """Match boxes to objects: each box, from the highest score on, to the object of its class that it overlaps most and
    that has no box yet.

    Args:
        boxes: ``(n, 4)``: x1, y1, x2, y2.
        labels: ``(n,)``.
        scores: ``(n,)``.
        true_boxes: ``(k, 4)``.
        true_labels: ``(k,)``.
        ignored: ``bool (k,)``, objects that are neither hit nor missed; a box on one is no false alarm.
        overlap: the least intersection over union of a hit.

    Example:
        >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        >>> match(box, torch.tensor([1]), torch.tensor([0.9]), box, torch.tensor([1]))
        Matches(hits=[(0, 0)], false_alarms=[], misses=[])
    """
    ious = need("torchvision.ops", extra="detect").box_iou(boxes.float(), true_boxes.float())
    skip = torch.zeros(len(true_boxes), dtype=torch.bool) if ignored is None else ignored
    free = ~skip
    hits, false_alarms = [], []
    for box in scores.argsort(descending=True, stable=True).tolist():
        same = true_labels == labels[box]
        open_ious = torch.where(same & free, ious[box], -1.0)
        if len(open_ious) and float(open_ious.max()) >= overlap:
            chosen = int(open_ious.argmax())
            free[chosen] = False
            hits.append((box, chosen))
        elif not bool(((ious[box] >= overlap) & same & skip).any()):
            false_alarms.append(box)
    return Matches(hits, false_alarms, (free & ~skip).nonzero().flatten().tolist())
