"""Where the objects of an image are, and of which classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..cost.counts import count_parameters
from ..data import DetectionDataset, DetectionSplits, Preprocessing, augment_detection, open_detection, read_fitted
from ..errors import WhatwhereError
from ..graph.guard import evaluation_mode
from ..views import DetectionLook, Drawn, draw_image, look_at_boxes
from .config import plain
from .detection.config import DetectConfig
from .detection.evidence import GatesOnObjects
from .detection.matching import match
from .detection.network import build_network, round_up
from .detection.scores import DetectionScores
from .drawing import Drawing
from .images import TaskImages
from .metric import Headline, Metric
from .network import trained_config, with_full_path
from .registry import register
from .task import Batch, CannotNarrow, CannotWiden, Evidence, Task

FIT_IMAGES = 128
"""Training images that ghost convolutions are fitted to, at most."""
SCORE = 0.3
"""The lowest score of a box that is drawn."""
DRAWN = 1280
"""The longest side, in pixels, of an image that boxes are drawn over."""
WIDEST = 1024
"""The most channels that the feature pyramid of the same-cost control gets."""


@dataclass(frozen=True)
class Found:
    """The objects found in one image, the highest score first.

    Attributes:
        boxes: ``float32 (n, 4)``: x1, y1, x2, y2 in pixels of the image as it was given.
        labels: ``int64 (n,)``, indices into the classes.
        scores: ``float32 (n,)``, from 0 to 1.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor


@register("detect", DetectConfig)
class Detect(Task):
    """Find the objects of an image, with torchvision's detectors.

    Measures COCO's average precisions ``map`` (over overlaps of 0.5 to 0.95), ``ap50``, ``ap75`` and so on, VOC's
    ``voc50``, and ``map/CLASS`` and ``ap50/CLASS`` for each class: shares from 0 to 1, nan where there is nothing to
    find. See :class:`whatwhere.tasks.detection.scores.DetectionScores`.

    Objects that COCO marks as crowds, or VOC as difficult, are not learned from.

    Args:
        config: data, network, detector and augmentation.
        resolved: ``config["resolved"]`` of an earlier task; without it the data is opened at once.

    Example:
        >>> from whatwhere.data import DetectionDataConfig
        >>> data = DetectionDataConfig(("scenes:size=64:train=20:test=20",))
        >>> task = Detect(DetectConfig(data, channels=32))
        >>> model = task.build(seed=0).eval()
        >>> [sorted(found) for found in task.predict(model, task.example(1, torch.device("cpu")))]
        [['boxes', 'labels', 'scores']]
    """

    headline = Headline(
        "map",
        "mAP",
        unit="%",
        scale=100,
        sentence="finds the objects of the test images with a mAP of {}",
        difference_unit="points",
        margin=2.0,
    )
    columns = (Metric("ap50", "AP50", unit="%", scale=100),)
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 8, "batch_size": 16, "ema": 0.99}

    def __init__(self, config: DetectConfig, resolved: Mapping[str, Any] | None = None) -> None:
        if resolved is None:
            config = replace(config, data=config.data.absolute(), model=with_full_path(config.model)).resolved()
        self.splits: DetectionSplits | None = None
        """The images, once they are open."""
        if resolved is None:
            self.splits = open_detection(config.data)
            train, expected = self.splits.train, Preprocessing.of(trained_config(config.model))
            resolved = {
                "classes": train.classes,
                "category_ids": train.category_ids,
                "size": train.size,
                "mean": expected.mean,
                "std": expected.std,
            }
        self.classes: tuple[str, ...] = tuple(resolved["classes"])
        self.category_ids: tuple[int, ...] = tuple(resolved["category_ids"])
        self.size = int(resolved["size"])
        self.preprocessing = Preprocessing(self.size, tuple(resolved["mean"]), tuple(resolved["std"]))
        self._settings = config
        self.config: dict[str, Any] = {**plain(config), "resolved": plain(dict(resolved))}

    @property
    def train_set(self) -> DetectionDataset:
        """The images to learn from."""
        return self._open().train

    @property
    def test_set(self) -> DetectionDataset:
        """The images to measure on."""
        return self._open().test

    def build(self, seed: int, *, pretrained: bool = True) -> nn.Module:
        """Return the detector; ``pretrained=False`` leaves out the trained weights that the config asks for."""
        config = self._settings
        if not pretrained:
            config = replace(config, model=config.model.untrained())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            images = lambda: TaskImages(self, "train", limit=FIT_IMAGES, batch_size=16)  # noqa: E731
            return build_network(config, len(self.classes), self.size, images=images)

    def prepare(self, batch: Batch, device: torch.device, generator: torch.Generator | None = None) -> Batch:
        """Images to one normalised float32 batch on ``device``, zero right of and below each; targets as torchvision
        takes them, with labels from 1. Augmented where a generator is given.
        """
        images = [image.to(device, non_blocking=True) for image in batch["images"]]
        learned = [~(crowd | difficult) for crowd, difficult in zip(batch["crowd"], batch["difficult"], strict=True)]
        boxes = [b[keep].to(device) for b, keep in zip(batch["boxes"], learned, strict=True)]
        labels = [n[keep].to(device) for n, keep in zip(batch["labels"], learned, strict=True)]
        if generator is not None:
            images, boxes, labels = augment_detection(
                images, boxes, labels, self._settings.augment, flip=self.train_set.flip, generator=generator
            )
        targets = [{"boxes": b, "labels": n + 1} for b, n in zip(boxes, labels, strict=True)]
        sides = [(int(image.shape[1]), int(image.shape[2])) for image in images]
        return {"index": batch["index"], "images": self._join(images, device), "sides": sides, "targets": targets}

    def inputs(self, batch: Batch) -> Tensor:
        """Return the images in a square of one size for all batches, for what takes no others (export)."""
        images: Tensor = batch["images"]
        side = round_up(self.size)
        return F.pad(images, (0, side - images.shape[3], 0, side - images.shape[2]))

    def predict(self, model: nn.Module, batch: Batch) -> Any:
        """Return the boxes, labels (from 1) and scores of each image."""
        return model(batch["images"])

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the detector's losses, and each of them."""
        losses: dict[str, Tensor] = model(batch["images"], batch["targets"])
        return torch.stack(list(losses.values())).sum(), {name: value.detach() for name, value in losses.items()}

    def metrics(self) -> DetectionScores:
        """Return the scores of a whole test set."""
        return DetectionScores(self.classes, self.category_ids)

    def score(self, model: nn.Module, batch: Batch, metrics: DetectionScores) -> None:
        """Add one batch of the test set to the scores."""
        truths = [self.test_set.truth(index) for index in batch["index"].tolist()]
        found = model(batch["images"])
        parts = zip(found, batch["sides"], truths, strict=True)
        metrics.update([vars(_found(one, side, truth["size"])) for one, side, truth in parts], truths)

    def write_results(self, metrics: DetectionScores, folder: Path) -> None:
        """Write ``predictions.json`` and ``truth.json``, in COCO's format."""
        metrics.write(folder)

    def find(self, model: nn.Module, image: Any, *, score: float = SCORE) -> Found:
        """Return the objects found in one image with at least this score.

        Args:
            model: a network of this task, on any device; it is left as it was.
            image: an image in any form that :func:`whatwhere.look` takes.
            score: the lowest score.

        Raises:
            WhatwhereError: an image that cannot be read.
        """
        pixels, size = read_fitted(image, self.size)
        device = next(model.parameters()).device
        with evaluation_mode(model), torch.no_grad():
            (one,) = model(self._join([pixels.to(device)], device))
        found = _found(one, (int(pixels.shape[1]), int(pixels.shape[2])), size)
        keep = found.scores >= score
        return Found(found.boxes[keep], found.labels[keep], found.scores[keep])

    def widened(self, extra: int) -> dict[str, Any]:
        """Return the config of the same detector with a wider backbone; where that starts from trained weights, with a
        wider feature pyramid and wider heads.
        """
        if not self._settings.model.trained:
            return super().widened(extra)
        channels = self._settings.channels or 0
        plain_detector = replace(self._settings, model=replace(self._settings.model.untrained(), attention="none"))
        least = count_parameters(build_network(plain_detector, len(self.classes), self.size)) + extra
        for wider in range(channels + 32, WIDEST + 1, 32):
            model = build_network(replace(plain_detector, channels=wider), len(self.classes), self.size)
            if count_parameters(model) >= least:
                return {**self.config, "channels": wider}
        raise CannotWiden(f"{WIDEST} channels in the feature pyramid are not enough for {extra:,} more parameters")

    def narrowed(self, multiply_adds: int) -> dict[str, Any]:
        """Raise: a detector's multiply-adds are not those of its backbone alone."""
        raise CannotNarrow("how to narrow a detector to a number of multiply-adds is not known")

    def share_data(self, earlier: Task) -> None:
        """Take over the images that an earlier task has open, if they are the same."""
        if isinstance(earlier, Detect) and all(earlier.config[key] == self.config[key] for key in ("data", "resolved")):
            self.splits = earlier.splits

    def describe_data(self) -> str:
        """Return the data in words."""
        return self._open().describe()

    @property
    def evidence(self) -> Evidence:
        """How much of the spatial gates lies on the objects."""
        return GatesOnObjects(self)

    def look(self, model: nn.Module, image: Any, *, target: str | None = None, title: str | None = None) -> Drawing:
        """Draw the boxes, the spatial and channel gates, and Grad-CAM of one box's score.

        On a test image the boxes are hits, misses and false alarms. ``target`` is the number of a box, 0 for that with
        the highest score, or the name of a class, for its best box.
        """
        found = self.view(model, image, target=target, title=title)
        return Drawing(found.caption, found.figure)

    def draw(self, image: Any, found: Found) -> Drawing:
        """Draw an image with what :meth:`find` found in it, nothing else."""
        pixels, size = read_fitted(image, DRAWN)
        scale = pixels.shape[2] / size[1]
        texts = [
            f"{self.classes[n]} {s:.2f}" for n, s in zip(found.labels.tolist(), found.scores.tolist(), strict=True)
        ]
        boxes = [Drawn(box, text, "found") for box, text in zip((found.boxes * scale).tolist(), texts, strict=True)]
        figure = draw_image(pixels.permute(1, 2, 0).numpy(), boxes[::-1], {"found": len(boxes)})
        return Drawing(", ".join(texts[:8]) or "nothing", figure)

    def view(
        self, model: nn.Module, image: Any, *, score: float = SCORE, target: str | None = None, title: str | None = None
    ) -> DetectionLook:
        """Return what :meth:`look` draws."""
        truth = None
        if isinstance(image, int):
            batch = self.test_set.__getitems__([image])
            if not len(batch["index"]):
                raise WhatwhereError(f"{self.test_set.name(image)} cannot be read")
            pixels = batch["images"][0]
            ignored = batch["crowd"][0] | batch["difficult"][0]
            truth = {"boxes": batch["boxes"][0], "labels": batch["labels"][0], "ignored": ignored}
        else:
            pixels, _ = read_fitted(image, self.size)
        device = next(model.parameters()).device
        return look_at_boxes(
            model,
            self._join([pixels.to(device)], device),
            pixels.permute(1, 2, 0).numpy(),
            self.classes,
            score=score,
            target=target,
            truth=truth,
            match=match,
            title=title,
        )

    def _join(self, images: Sequence[Tensor], device: torch.device) -> Tensor:
        """Return images ``uint8 (3, h, w)``, normalised, in one batch whose sides are multiples of 32."""
        height, width = (round_up(max(image.shape[axis] for image in images)) for axis in (1, 2))
        batch = torch.zeros(len(images), 3, height, width, device=device)
        for row, image in zip(batch, images, strict=True):
            row[:, : image.shape[1], : image.shape[2]] = self.preprocessing.normalise(image[None])[0]
        return batch

    def _open(self) -> DetectionSplits:
        if self.splits is None:
            splits = open_detection(self._settings.data)
            train = splits.train
            if (train.classes, train.size) != (self.classes, self.size):
                raise WhatwhereError(
                    f"the data {' '.join(self._settings.data.data)} has changed: it now has {len(train.classes)} "
                    f"classes ({', '.join(train.classes[:5])}) and images of {train.size} pixels; this task was made "
                    f"for {len(self.classes)} ({', '.join(self.classes[:5])}) of {self.size} pixels"
                )
            self.splits = splits
        return self.splits


def _found(one: Mapping[str, Tensor], side: tuple[int, int], size: tuple[int, int]) -> Found:
    """Return a detector's result for an image that filled ``side`` (height, width) of its batch, in pixels of the
    image of ``size``, with labels from 0. What lies outside the image is left out.
    """
    limit = torch.tensor([side[1], side[0]] * 2)
    boxes = one["boxes"].detach().float().cpu().clamp(min=torch.zeros(4), max=limit.float())
    keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    scale = torch.tensor([size[1], size[0]] * 2) / limit
    return Found(boxes[keep] * scale, one["labels"].cpu()[keep] - 1, one["scores"].detach().float().cpu()[keep])
