"""Which of several classes is in the image."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints import build
from ..data import DataConfig, ImageDataset, Preprocessing, Splits, absolute, augment, open_data
from ..errors import WhatwhereError, need
from ..networks import ModelConfig
from ..tables import counted
from ..views import look
from .config import plain
from .drawing import Drawing
from .images import TaskImages
from .metric import Headline
from .network import trained_config, with_full_path
from .on_object import OnObject
from .registry import register
from .task import Batch, Evidence, Task

FIT_IMAGES = 256
"""Training images that ghost convolutions are fitted to, at most."""


@dataclass(frozen=True)
class ClassifyConfig:
    """Train a network to classify images.

    Try:
        whatwhere train classify --data scenes --attention cbam
        whatwhere train classify --data path/to/images --model resnet18 --pretrained --attention se --epochs 20
        whatwhere train classify --data path/to/images --resume
        whatwhere train classify --data hf:cifar10 --attention se
        torchrun --nproc-per-node 4 -m whatwhere train classify --data path/to/images --model resnet50
    """

    data: DataConfig = field(default_factory=DataConfig)
    """The images."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network; its number of classes is taken from the data."""
    label_smoothing: float = 0.1
    """Share of the target that is spread evenly over all classes, from 0 up to, but not, 1."""
    augment: Literal["light", "none"] = "light"
    """Light: shifted, and mirrored where that keeps the label."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 1.0:
            raise WhatwhereError(f"label_smoothing={self.label_smoothing}: must be from 0 up to, but not, 1")
        if self.augment not in ("light", "none"):
            raise WhatwhereError(f"augment={self.augment!r}: must be 'light' or 'none'")


@register("classify", ClassifyConfig)
class Classify(Task):
    """Tell apart the classes of images, with cross entropy.

    Measures ``loss`` (cross entropy without label smoothing), ``top1`` and, where there are more than five classes,
    ``top5``: shares from 0 to 1. ``config["resolved"]`` holds the classes, the side of the images, and the mean and
    standard deviation (of values from 0 to 1) that images are normalised with: those of the pretrained weights, or 0.5
    and 0.25.

    Args:
        config: data, network, loss and augmentation.
        resolved: ``config["resolved"]`` of an earlier task; without it the data is opened at once.

    Example:
        >>> from whatwhere.data import DataConfig
        >>> data = DataConfig("scenes:size=20:train=20:test=20")
        >>> task = Classify(ClassifyConfig(data, ModelConfig(attention="cbam")))
        >>> task.predict(task.build(seed=0).eval(), task.example(2, torch.device("cpu"))).shape
        torch.Size([2, 10])
    """

    headline = Headline(
        "top1",
        "accuracy",
        unit="%",
        scale=100,
        sentence="names {} of the test images right",
        difference_unit="points",
        margin=2.0,
    )
    class_scores = True
    recipe: ClassVar[Mapping[str, Any]] = {"ema": 0.99}
    seeds = 9

    def __init__(self, config: ClassifyConfig, resolved: Mapping[str, Any] | None = None) -> None:
        if resolved is None:
            config = replace(
                config, data=replace(config.data, data=absolute(config.data.data)), model=with_full_path(config.model)
            )
        self.splits: Splits | None = None
        """The images, once they are open; may be set, where they are open already."""
        if resolved is None:
            self.splits = open_data(config.data, default_size=_usual_size(config.model))
            train, expected = self.splits.train, Preprocessing.of(trained_config(config.model))
            resolved = {"classes": train.classes, "size": train.size, "mean": expected.mean, "std": expected.std}
        self.classes: tuple[str, ...] = tuple(resolved["classes"])
        self.size = int(resolved["size"])
        self.mean: tuple[float, ...] = tuple(resolved["mean"])
        self.std: tuple[float, ...] = tuple(resolved["std"])
        self._settings = replace(config, model=replace(config.model, classes=len(self.classes)))
        self.config: dict[str, Any] = {**plain(self._settings), "resolved": plain(dict(resolved))}
        self.preprocessing = Preprocessing(self.size, self.mean, self.std)

    @property
    def train_set(self) -> ImageDataset:
        """The images to learn from."""
        return self._open().train

    @property
    def test_set(self) -> ImageDataset:
        """The images to measure on."""
        return self._open().test

    def build(self, seed: int, *, pretrained: bool = True) -> nn.Module:
        """Return the network; ``pretrained=False`` leaves out the pretrained weights that the config asks for."""
        config = self._settings.model
        if not pretrained:
            config = config.untrained()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(config, size=self.size, images=lambda: TaskImages(self, "train", limit=FIT_IMAGES))

    def prepare(self, batch: Batch, device: torch.device, generator: torch.Generator | None = None) -> Batch:
        """uint8 ``images`` (B,3,S,S) to normalised float32 on ``device``; augmented where a generator is given."""
        images: Tensor = batch["images"].to(device, non_blocking=True)
        if generator is not None:
            images = augment(images, self._settings.augment, flip=self.train_set.flip, generator=generator)
        return {
            "images": self.normalise(images),
            "labels": batch["labels"].to(device, non_blocking=True),
        }

    def normalise(self, images: Tensor) -> Tensor:
        """Bring images from 0 … 255 to (value / 255 - mean) / std, float32."""
        return self.preprocessing.normalise(images)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross entropy with label smoothing, and the share of right answers."""
        logits = model(batch["images"]).float()
        labels = batch["labels"]
        loss = F.cross_entropy(logits, labels, label_smoothing=self._settings.label_smoothing)
        return loss, {"top1": (logits.detach().argmax(1) == labels).float().mean()}

    def metrics(self) -> Any:
        """Return the metrics of a whole test set."""
        torchmetrics = need("torchmetrics", extra="train")
        accuracy = torchmetrics.classification.MulticlassAccuracy
        n = len(self.classes)
        found = {"loss": torchmetrics.MeanMetric(), "top1": accuracy(n, average="micro", validate_args=False)}
        if n > 5:
            found["top5"] = accuracy(n, top_k=5, average="micro", validate_args=False)
        return torchmetrics.MetricCollection(found, compute_groups=False)

    def score(self, model: nn.Module, batch: Batch, metrics: Any) -> Tensor:
        """Add one batch of the test set to the metrics; return 1 for each image that is named right, otherwise 0."""
        logits = model(batch["images"]).float()
        for name, metric in metrics.items():
            if name == "loss":
                metric.update(F.cross_entropy(logits, batch["labels"], reduction="none"))
            else:
                metric.update(logits, batch["labels"])
        right: Tensor = logits.argmax(1) == batch["labels"]
        return right.float()

    def share_data(self, earlier: Task) -> None:
        """Take over the images that an earlier task has open, if they are the same."""
        same = all(earlier.config.get(key) == self.config[key] for key in ("data", "resolved"))
        if isinstance(earlier, Classify) and same:
            self.splits = earlier.splits

    def describe_data(self) -> str:
        """Return the data, its size and the number of classes."""
        train, test = self._open()
        return (
            f"{self._settings.data.data}: {counted(len(train), 'image')} to learn from, {len(test):,} to test on, "
            f"{train.size}×{train.size} pixels, {len(train.classes)} classes"
        )

    def describe_image(self, index: int) -> str:
        """Return the name of a test image, and its class."""
        return f"{super().describe_image(index)}, {self.classes[int(self.test_set.labels[index])]}"

    @property
    def evidence(self) -> Evidence | None:
        """How much of Grad-CAM and of the spatial gates lies on the object, where the test images have boxes."""
        return None if self.test_set.boxes is None else OnObject(self, self.test_set)

    def look(self, model: nn.Module, image: Any, *, target: str | None = None, title: str | None = None) -> Drawing:
        """Draw the spatial gates over the image, the channel gates, and Grad-CAM, see :func:`whatwhere.look`.

        ``target`` is the class that Grad-CAM is for, by default the predicted one.
        """
        if isinstance(image, int):
            images = self.test_set.__getitems__([image])["images"]
            if not len(images):
                raise WhatwhereError(f"{self.test_set.name(image)} cannot be read")
            image = images[0]
        seen = look(
            model,
            image,
            classes=self.classes,
            target=target,
            mean=self.mean,
            std=self.std,
            size=self.size,
            title=title,
        )
        return Drawing(f"{seen.prediction} ({seen.confidence:.1%})", seen.figure)

    def _open(self) -> Splits:
        if self.splits is None:
            splits = open_data(self._settings.data, default_size=self.size)
            if (splits.train.classes, splits.train.size) != (self.classes, self.size):
                raise WhatwhereError(
                    f"the data {self._settings.data.data!r} has changed: it now has "
                    f"{len(splits.train.classes)} classes ({', '.join(splits.train.classes[:5])}, …) of "
                    f"{splits.train.size} pixels; this task was made for "
                    f"{len(self.classes)} ({', '.join(self.classes[:5])}, …) of {self.size} pixels"
                )
            self.splits = splits
        return self.splits


def _usual_size(model: ModelConfig) -> int | None:
    """The side of the images that pretrained weights were made for."""
    size = trained_config(model).get("input_size")
    return int(size[-1]) if size else None
