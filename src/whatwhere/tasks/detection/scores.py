"""The scores of a detector on a whole test set: COCO's average precisions and VOC's."""

import contextlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import WhatwhereError, need
from ...files import write_text
from .voc import voc_ap

NUMBERS = (
    "map",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar1",
    "ar10",
    "ar100",
    "ar_small",
    "ar_medium",
    "ar_large",
)
"""COCO's twelve numbers, in its order."""


class DetectionScores:
    """Gathers boxes and truths image by image, and scores them.

    COCO's numbers are those of its reference, computed by ``faster_coco_eval``: average precision over 101 recalls, at
    most 100 boxes an image, for overlaps of 0.5 to 0.95 (``map``), 0.5, 0.75, and objects by area, and the highest
    recalls (``ar…``); boxes on a crowd are no false alarms. ``voc50`` is the mean over classes of :func:`voc_ap` at an
    overlap of 0.5, where objects marked as crowd or difficult are ignored; in COCO's numbers difficult ones count as
    others. ``map/NAME`` and ``ap50/NAME`` are those of one class. All are shares from 0 to 1, nan where there is no
    object to find, and means leave such classes out.

    Lin et al., Microsoft COCO, arXiv 1405.0312; cocodataset/cocoapi.

    Args:
        classes: the names of the classes.
        category_ids: their numbers in COCO's format, by default from 1.

    Example:
        >>> import torch
        >>> scores = DetectionScores(["cat"])
        >>> box, label, no = torch.tensor([[5.0, 5.0, 60.0, 70.0]]), torch.tensor([0]), torch.tensor([False])
        >>> truth = {"image_id": 1, "size": (80, 80), "name": "a.jpg", "boxes": box, "labels": label, "crowd": no}
        >>> truth |= {"difficult": no, "areas": torch.tensor([3575.0])}
        >>> scores.update([{"boxes": box, "labels": label, "scores": torch.tensor([0.9])}], [truth])
        >>> round(scores.compute()["map/cat"], 6)
        1.0
    """

    def __init__(self, classes: Sequence[str], category_ids: Sequence[int] | None = None) -> None:
        self.classes = tuple(classes)
        self.category_ids = list(category_ids) if category_ids else list(range(1, len(self.classes) + 1))
        if len(self.category_ids) != len(self.classes):
            raise WhatwhereError(f"{len(self.classes)} classes need as many numbers, got {len(self.category_ids)}")
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._own: list[tuple[dict[str, Tensor], dict[str, Any]]] = []
        self._all: list[tuple[dict[str, Tensor], dict[str, Any]]] = []

    def to(self, device: Any) -> "DetectionScores":
        """Return itself: boxes are kept on the CPU."""
        return self

    def update(self, predictions: Sequence[Mapping[str, Any]], truths: Sequence[Mapping[str, Any]]) -> None:
        """Add images.

        Args:
            predictions: for each image ``boxes`` ``(n, 4)`` (x1, y1, x2, y2 in its own pixels), ``labels`` ``(n,)``
                (indices into the classes) and ``scores`` ``(n,)``.
            truths: for each image what :meth:`whatwhere.data.DetectionDataset.truth` returns.

        Raises:
            WhatwhereError: boxes of another shape, numbers that are not finite, or labels that are no class.
        """
        for found, truth in zip(predictions, truths, strict=True):
            one = {key: torch.as_tensor(found[key]).detach().cpu() for key in ("boxes", "labels", "scores")}
            boxes, labels, scores = one["boxes"], one["labels"], one["scores"]
            name = truth["name"]
            if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != scores.shape or len(boxes) != len(scores):
                shapes = ", ".join(f"{key} {tuple(value.shape)}" for key, value in one.items())
                raise WhatwhereError(f"{name}: boxes (n, 4), labels (n,) and scores (n,) are needed, got {shapes}")
            if not (torch.isfinite(boxes).all() and torch.isfinite(scores).all()):
                raise WhatwhereError(f"{name}: the network returned boxes or scores that are not finite")
            if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
                raise WhatwhereError(f"{name}: labels must be from 0 to {len(self.classes) - 1}")
            self._own.append((one, dict(truth)))

    def compute(self) -> dict[str, float]:
        """Return all numbers, over the images of all processes."""
        self._all = sorted(self._gather(), key=lambda pair: int(pair[1]["image_id"]))
        whole = self._evaluate()
        precision = whole.eval["precision"]  # overlaps, recalls, classes, areas, limits on boxes
        found = {name: _share(value) for name, value in zip(NUMBERS, whole.stats, strict=False)}
        aps = [self._voc(label) for label in range(len(self.classes))]
        known = [ap for ap in aps if not math.isnan(ap)]
        found["voc50"] = float(np.mean(known)) if known else math.nan
        for index, name in enumerate(self.classes):
            own = precision[:, :, index, 0, -1]
            found[f"map/{name}"] = _mean(own)
            found[f"ap50/{name}"] = _mean(own[0])
        return found

    def predictions(self) -> list[dict[str, Any]]:
        """Return the boxes of the images of the last :meth:`compute`, in COCO's format of results."""
        return [
            {
                "image_id": int(truth["image_id"]),
                "category_id": self.category_ids[label],
                "bbox": _corner_and_sides(box),
                "score": score,
            }
            for one, truth in self._all
            for box, label, score in zip(
                one["boxes"].double().tolist(), one["labels"].tolist(), one["scores"].double().tolist(), strict=True
            )
        ]

    def truth(self) -> dict[str, Any]:
        """Return the objects of these images in COCO's format."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for _, truth in self._all:
            number, (height, width) = int(truth["image_id"]), truth["size"]
            images.append({"id": number, "file_name": truth["name"], "width": width, "height": height})
            rows = zip(
                truth["boxes"].double().tolist(),
                truth["labels"].tolist(),
                truth["crowd"].tolist(),
                truth["areas"].double().tolist(),
                strict=True,
            )
            for box, label, crowd, area in rows:
                category, bbox = self.category_ids[label], _corner_and_sides(box)
                ids = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
                annotations.append({**ids, "bbox": bbox, "area": area, "iscrowd": int(crowd)})
        categories = [{"id": i, "name": name} for i, name in zip(self.category_ids, self.classes, strict=True)]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}

    def write(self, folder: Path) -> None:
        """Write ``predictions.json`` and ``truth.json``, which COCO's own tools read."""
        write_text(folder / "predictions.json", json.dumps(self.predictions()) + "\n")
        write_text(folder / "truth.json", json.dumps(self.truth()) + "\n")

    def _gather(self) -> list[tuple[dict[str, Tensor], dict[str, Any]]]:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self._own
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, self._own)
        return [pair for part in parts for pair in part]

    def _evaluate(self) -> Any:
        """Return COCO's evaluation of all images."""
        package = need("faster_coco_eval", extra="detect")
        with contextlib.redirect_stdout(io.StringIO()):
            truth = package.COCO(self.truth())
            found = truth.loadRes(self.predictions()) if self.predictions() else package.COCO(self._no_predictions())
            evaluation = package.COCOeval_faster(truth, found, "bbox", print_function=lambda *_: None)
            evaluation.params.catIds = self.category_ids
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation

    def _no_predictions(self) -> dict[str, Any]:
        return {**self.truth(), "annotations": []}

    def _voc(self, label: int) -> float:
        images = []
        for one, truth in self._all:
            mine, true = one["labels"] == label, truth["labels"] == label
            ignored = (truth["crowd"] | truth["difficult"])[true]
            images.append((one["boxes"][mine], one["scores"][mine], truth["boxes"][true], ignored))
        return voc_ap(images)


def _corner_and_sides(box: Sequence[float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def _share(value: float) -> float:
    """Return a number of COCO's, nan in place of its -1."""
    return math.nan if value < 0 else float(value)


def _mean(precision: Any) -> float:
    """Return the mean of the precisions, nan where there is nothing to find."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else math.nan
