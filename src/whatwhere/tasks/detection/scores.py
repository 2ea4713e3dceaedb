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
        category_ids: their numbers in COCO's format, in any order, by default from 1.

    Raises:
        WhatwhereError: classes or numbers that are not distinct, or not as many numbers as classes.

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
        numbers = range(1, len(self.classes) + 1) if category_ids is None else category_ids
        self.category_ids = [int(number) for number in numbers]
        if len(self.category_ids) != len(self.classes):
            raise WhatwhereError(f"{len(self.classes)} classes need as many numbers, got {len(self.category_ids)}")
        for what, values in (("classes", self.classes), ("category_ids", self.category_ids)):
            if len(set(values)) < len(values):
                raise WhatwhereError(f"{what} must be distinct, got {', '.join(map(str, values))}")
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._own: list[tuple[dict[str, Tensor], dict[str, Any]]] = []
        self._all: list[tuple[dict[str, Tensor], dict[str, Any]]] | None = None

    def to(self, device: Any) -> "DetectionScores":
        """Return itself: boxes are kept on the CPU."""
        return self

    def update(self, predictions: Sequence[Mapping[str, Any]], truths: Sequence[Mapping[str, Any]]) -> None:
        """Add images: all of them, or none where one is wrong. An image that comes several times counts once.

        Args:
            predictions: for each image ``boxes`` ``(n, 4)`` (x1, y1, x2, y2 in its own pixels), ``labels`` ``(n,)``
                (indices into the classes) and ``scores`` ``(n,)``.
            truths: for each image what :meth:`whatwhere.data.DetectionDataset.truth` returns.

        Raises:
            WhatwhereError: boxes of another shape, numbers that are not finite, labels that are no class, or another
                number of predictions than of truths.
        """
        if len(predictions) != len(truths):
            raise WhatwhereError(f"{len(predictions)} predictions for {len(truths)} images")
        added: list[tuple[dict[str, Tensor], dict[str, Any]]] = []
        for found, truth in zip(predictions, truths, strict=True):
            one = {key: torch.as_tensor(found[key]).detach().cpu().clone() for key in ("boxes", "labels", "scores")}
            boxes, labels, scores = one["boxes"], one["labels"], one["scores"]
            name = truth["name"]
            if boxes.ndim != 2 or boxes.shape[1] != 4 or labels.shape != scores.shape or len(boxes) != len(scores):
                shapes = ", ".join(f"{key} {tuple(value.shape)}" for key, value in one.items())
                raise WhatwhereError(f"{name}: boxes (n, 4), labels (n,) and scores (n,) are needed, got {shapes}")
            if not (torch.isfinite(boxes).all() and torch.isfinite(scores).all()):
                raise WhatwhereError(f"{name}: the network returned boxes or scores that are not finite")
            for given in (labels, truth["labels"]):
                whole = not given.is_floating_point()
                if len(given) and not (whole and 0 <= int(given.min()) <= int(given.max()) < len(self.classes)):
                    raise WhatwhereError(f"{name}: labels must be from 0 to {len(self.classes) - 1}, and whole")
            added.append((one, dict(truth)))
        self._own += added

    def compute(self) -> dict[str, float]:
        """Return all numbers, over the images of all processes."""
        images = {int(truth["image_id"]): (one, truth) for one, truth in self._gather()}
        self._all = [images[number] for number in sorted(images)]
        whole = self._evaluate()
        precision = whole.eval["precision"]  # overlaps, recalls, classes, areas, limits on boxes
        found = {name: _share(value) for name, value in zip(NUMBERS, whole.stats, strict=False)}
        aps = self._voc()
        known = [ap for ap in aps if not math.isnan(ap)]
        found["voc50"] = float(np.mean(known)) if known else math.nan
        columns = {int(number): column for column, number in enumerate(whole.params.catIds)}  # sorted by number
        for number, name in zip(self.category_ids, self.classes, strict=True):
            own = precision[:, :, columns[number], 0, -1]
            found[f"map/{name}"] = _mean(own)
            found[f"ap50/{name}"] = _mean(own[0])
        return found

    def predictions(self) -> list[dict[str, Any]]:
        """Return the boxes of the images of the last :meth:`compute`, in COCO's format of results.

        Raises:
            WhatwhereError: :meth:`compute` was not called.
        """
        return [
            {
                "image_id": int(truth["image_id"]),
                "category_id": self.category_ids[label],
                "bbox": _corner_and_sides(box),
                "score": score,
            }
            for one, truth in self._computed()
            for box, label, score in zip(
                one["boxes"].double().tolist(), one["labels"].tolist(), one["scores"].double().tolist(), strict=True
            )
        ]

    def truth(self) -> dict[str, Any]:
        """Return the objects of these images in COCO's format.

        Raises:
            WhatwhereError: :meth:`compute` was not called.
        """
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for _, truth in self._computed():
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
        """Write ``predictions.json`` and ``truth.json``, which COCO's own tools read.

        Raises:
            WhatwhereError: :meth:`compute` was not called.
            OSError: a file cannot be written.
        """
        write_text(folder / "predictions.json", json.dumps(self.predictions()) + "\n")
        write_text(folder / "truth.json", json.dumps(self.truth()) + "\n")

    def _computed(self) -> list[tuple[dict[str, Tensor], dict[str, Any]]]:
        if self._all is None:
            raise WhatwhereError("there are no scores yet: call compute first")
        return self._all

    def _gather(self) -> list[tuple[dict[str, Tensor], dict[str, Any]]]:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self._own
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, self._own)
        return [pair for part in parts for pair in part]

    def _evaluate(self) -> Any:
        """Return COCO's evaluation of all images.

        Images are counted from 0 here: faster_coco_eval takes numbers above 2 ** 53 for equal.
        """
        package = need("faster_coco_eval", extra="detect")
        content, boxes = self.truth(), self.predictions()
        positions = {image["id"]: position for position, image in enumerate(content["images"])}
        for image in content["images"]:
            image["id"] = positions[image["id"]]
        for one in (*content["annotations"], *boxes):
            one["image_id"] = positions[one["image_id"]]
        with contextlib.redirect_stdout(io.StringIO()):
            truth = package.COCO(content)
            found = truth.loadRes(boxes) if boxes else package.COCO({**content, "annotations": []})
            evaluation = package.COCOeval_faster(truth, found, "bbox", print_function=lambda *_: None)
            evaluation.params.catIds = self.category_ids
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation

    def _voc(self) -> list[float]:
        """Return VOC's average precision of each class."""
        images: list[list[tuple[Tensor, Tensor, Tensor, Tensor]]] = [[] for _ in self.classes]
        for one, truth in self._computed():
            skip = truth["crowd"] | truth["difficult"]
            for label in {*one["labels"].tolist(), *truth["labels"].tolist()}:
                mine, true = one["labels"] == label, truth["labels"] == label
                images[label].append((one["boxes"][mine], one["scores"][mine], truth["boxes"][true], skip[true]))
        return [voc_ap(parts) for parts in images]


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
