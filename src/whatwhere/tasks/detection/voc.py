"""Pascal VOC's average precision."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import need

Array = NDArray[np.float64]


def average_precision(recall: Array, precision: Array, *, points: int | None = None) -> float:
    r"""Return the area under a curve of precision over recall, made monotonous.

    .. math:: AP = \int_0^1 \max_{r' \ge r} p(r')\,dr

    as VOC computes it since 2010; with ``points=11`` the mean of the integrand at 0, 0.1, …, 1, as in 2007.

    Args:
        recall: rising.
        precision: at each recall.
        points: at how many recalls the integrand is looked at; None for all.

    Example:
        >>> average_precision(np.array([0.5, 1.0]), np.array([1.0, 0.5]))
        0.75
    """
    recall = np.concatenate([[0.0], recall, [1.0]])
    precision = np.concatenate([[0.0], precision, [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if points is None:
        return float(np.sum(np.diff(recall) * envelope[1:]))
    at = np.linspace(0, 1, points)
    highest = [float(precision[recall >= r - 1e-12].max(initial=0.0)) for r in at]
    return float(np.mean(highest))


def voc_ap(
    images: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], *, overlap: float = 0.5, points: int | None = None
) -> float:
    """Return the average precision of one class; nan without an object that counts.

    Each box, from the highest score on over all images, belongs to the object that it overlaps most. If that overlap is
    large enough it is a hit, or a false alarm where the object has one already; on an object that is ignored it counts
    as neither. M. Everingham et al., The Pascal Visual Object Classes Challenge, IJCV 2010; devkit ``VOCevaldet.m``.

    Deviation: boxes are continuous (x2 and y2 exclusive), so a side is x2 - x1, where the devkit, which counts whole
    pixels, has x2 - x1 + 1.

    Args:
        images: for each image the boxes ``(n, 4)``, their scores ``(n,)``, the objects ``(k, 4)``, and which of these
            are ignored, ``bool (k,)``.
        overlap: the least intersection over union of a hit.
        points: see :func:`average_precision`.

    Example:
        >>> box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        >>> voc_ap([(box, torch.tensor([0.9]), box, torch.tensor([False]))])
        1.0
    """
    ops = need("torchvision.ops", extra="detect")
    counted = sum(int((~ignored).sum()) for _, _, _, ignored in images)
    if not counted:
        return float("nan")
    scores, owners, overlaps = [], [], []
    first = 0  # objects are numbered over all images
    skip = np.concatenate([ignored.numpy() for _, _, _, ignored in images]) if images else np.zeros(0, bool)
    for boxes, score, objects, _ in images:
        if len(boxes):
            iou = ops.box_iou(boxes.double(), objects.double()) if len(objects) else torch.full((len(boxes), 1), -1.0)
            iou = iou.nan_to_num(nan=0.0)  # two boxes without area
            best, owner = iou.max(1)
            scores.append(score.double().numpy())
            owners.append(owner.numpy() + first)
            overlaps.append(best.double().numpy())
        first += len(objects)
    if not scores:
        return 0.0
    order = np.argsort(-np.concatenate(scores), kind="stable")
    owner, iou = np.concatenate(owners)[order], np.concatenate(overlaps)[order]
    taken: set[int] = set()
    hits, alarms = np.zeros(len(order)), np.zeros(len(order))
    for position, (number, value) in enumerate(zip(owner.tolist(), iou.tolist(), strict=True)):
        if value < overlap:
            alarms[position] = 1
        elif skip[number]:
            continue
        elif number in taken:
            alarms[position] = 1
        else:
            taken.add(number)
            hits[position] = 1
    hit, alarm = hits.cumsum(), alarms.cumsum()
    precision = hit / np.maximum(hit + alarm, np.finfo(np.float64).eps)
    return average_precision(hit / counted, precision, points=points)
