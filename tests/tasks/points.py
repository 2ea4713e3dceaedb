"""A whole task in one file that is no part of the package: where is the bright spot? See test_extension.py."""

from dataclasses import dataclass, field

import torch
from torchmetrics import MeanMetric, MetricCollection

from whatwhere.checkpoints import build
from whatwhere.networks import ModelConfig
from whatwhere.tasks import Drawing, Headline, Task, plain, register


@dataclass(frozen=True)
class SpotConfig:
    """How many images, and how hard they are."""

    count: int = 96
    """Training images."""
    noise: float = 0.3
    """Standard deviation of the noise."""


@dataclass(frozen=True)
class PointsConfig:
    """Train a network to say where the bright spot is."""

    spots: SpotConfig = field(default_factory=SpotConfig)
    model: ModelConfig = field(default_factory=ModelConfig)


class Spots:
    """Images ``float32 (B, 3, 16, 16)`` with one bright spot, and its centre ``(B, 2)`` as x, y in pixels."""

    def __init__(self, count: int, noise: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.centres = 2 + 12 * torch.rand(count, 2, generator=generator)
        y, x = torch.meshgrid(torch.arange(16) + 0.5, torch.arange(16) + 0.5, indexing="ij")
        square = (x - self.centres[:, 0, None, None]) ** 2 + (y - self.centres[:, 1, None, None]) ** 2
        spots = (-square / 4).exp()[:, None].expand(-1, 3, -1, -1)
        self.images = spots + noise * torch.randn(count, 3, 16, 16, generator=generator)

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices):
        index = torch.as_tensor(indices, dtype=torch.int64)
        return {"images": self.images[index], "centres": self.centres[index], "index": index}

    def name(self, index: int) -> str:
        return f"spot {index}"


@register("points", PointsConfig)
class Points(Task):
    """Find the bright spot of an image, with the mean absolute error."""

    headline = Headline("mae", "mean error", unit="px", digits=2, higher_is_better=False)
    train_set = test_set = None

    def __init__(self, config: PointsConfig, resolved=None) -> None:
        self.config = plain(config)
        self.model = ModelConfig(**{**vars(config.model), "classes": 2})
        self.train_set = Spots(config.spots.count, config.spots.noise, 0)
        self.test_set = Spots(24, config.spots.noise, 1)

    def build(self, seed, *, pretrained=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(self.model, size=16)

    def prepare(self, batch, device, generator=None):
        return {"images": batch["images"].to(device), "centres": batch["centres"].to(device)}

    def loss(self, model, batch):
        errors = self._errors(model, batch)
        return errors.mean(), {"mae": errors.detach().mean()}

    def metrics(self):
        return MetricCollection({"mae": MeanMetric()})

    def score(self, model, batch, metrics):
        metrics["mae"].update(self._errors(model, batch))

    def look(self, model, image, *, target=None, title=None):
        from matplotlib.figure import Figure

        one = self.prepare(self.test_set.__getitems__([image]), next(model.parameters()).device)
        with torch.no_grad():
            x, y = self._centres(model, one)[0].tolist()
        figure = Figure(figsize=(2, 2))
        figure.add_subplot(title=title).imshow(one["images"][0].mean(0))
        figure.axes[0].plot(x - 0.5, y - 0.5, "r+")
        return Drawing(f"x {x:.1f}, y {y:.1f}", figure)

    def _centres(self, model, batch):
        return 8 + 8 * model(batch["images"]).float()

    def _errors(self, model, batch):
        return (self._centres(model, batch) - batch["centres"]).abs().mean(1)
