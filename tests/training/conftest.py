"""A task of a few lines, registered like any other: the loop must not need more than the protocol."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from whatwhere.tasks import Headline, Task, create, plain, register

Broken = namedtuple("Broken", "path reason")


@dataclass(frozen=True)
class ToyConfig:
    n: int = 40
    poison: int = -1
    broken: tuple[int, ...] = ()
    norm: bool = True


class ToyImages:
    """Blobs in the left or the right half; image ``poison`` is not a number, ``broken`` ones cannot be read."""

    def __init__(self, n: int, seed: int, poison: int = -1, broken: tuple[int, ...] = ()) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(n) % 2
        self.images = torch.randn(n, 3, 8, 8, generator=generator)
        for i, label in enumerate(self.labels):
            self.images[i, :, :, 4 * label : 4 * label + 4] += 0.7
        if poison >= 0:
            self.images[poison] = float("nan")
        self.unreadable = set(broken)
        self.broken: list[Broken] = []

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"blob {index}"

    def __getitems__(self, indices):
        for i in indices:
            if i in self.unreadable and not any(b.path == self.name(i) for b in self.broken):
                self.broken.append(Broken(self.name(i), "torn"))
        kept = torch.tensor([i for i in indices if i not in self.unreadable], dtype=torch.int64)
        return {"images": self.images[kept], "labels": self.labels[kept], "index": kept}


@register("toy", ToyConfig)
class Toy(Task):
    """Left or right."""

    headline = Headline("top1", "accuracy", unit="%", scale=100)
    train_set = test_set = None

    def __init__(self, config: ToyConfig, resolved=None) -> None:
        self.config = plain(config)
        self.train_set = ToyImages(config.n, 0, config.poison, config.broken)
        self.test_set = ToyImages(20, 1)

    def build(self, seed: int, *, pretrained: bool = True) -> nn.Module:
        torch.manual_seed(seed)
        norm = nn.BatchNorm2d(8) if self.config["norm"] else nn.Identity()
        body = [nn.Conv2d(3, 8, 3, padding=1), norm, nn.ReLU(), nn.Dropout(0.2)]
        return nn.Sequential(*body, nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten(), nn.Linear(16, 2))

    def prepare(self, batch, device, generator=None):
        images = batch["images"].to(device)
        if generator is not None:
            images = images + 0.1 * torch.randn(images.shape, generator=generator).to(device)
        return {"images": images, "labels": batch["labels"].to(device)}

    def loss(self, model, batch):
        logits = model(batch["images"])
        loss = nn.functional.cross_entropy(logits.float(), batch["labels"])
        return loss, {"top1": (logits.argmax(1) == batch["labels"]).float().mean()}

    def metrics(self):
        return MetricCollection(
            {"top1": MulticlassAccuracy(2, average="micro"), "loss": MeanMetric()}, compute_groups=False
        )

    def score(self, model, batch, metrics) -> torch.Tensor:
        logits = model(batch["images"]).float()
        metrics["top1"].update(logits, batch["labels"])
        losses = nn.functional.cross_entropy(logits, batch["labels"], reduction="none")
        metrics["loss"].update(losses)
        return (logits.argmax(1) == batch["labels"]).float()


@pytest.fixture
def toy():
    return lambda **config: create("toy", config)
