"""Where the spatial gates of a detector are: on the objects, or beside them."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...views import area_inside, attended, capture, spatial_energy
from ..metric import Metric
from ..task import Evidence, Task

if TYPE_CHECKING:
    from ...data import DetectionDataset

IMAGES = 64
"""Test images, evenly over the set, on which the shares are measured."""


class GatesOnObjects(Evidence):
    """The mean share, from 0 to 1, of the spatial gates inside the objects' boxes, over all sites and test images with
    objects; nan for a network without spatial gates.

    Args:
        task: a task whose test set is a :class:`whatwhere.data.DetectionDataset`.
    """

    columns = (Metric("gate", "gate on objects", unit="%", scale=100),)
    chance = Metric(
        "area",
        "area of objects",
        unit="%",
        scale=100,
        sentence="The objects' boxes fill {} of the image: the share on the objects of a gate that is the same "
        "everywhere.",
    )
    reading = "Gate on objects: the share of the spatial gates that falls inside the objects' boxes."

    def __init__(self, task: Task) -> None:
        self.task = task

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Return ``gate`` (nan for a network without spatial gates) and ``area``."""
        dataset: DetectionDataset = self.task.test_set  # type: ignore[assignment]
        device = next(model.parameters()).device
        gated = attended(model.eval())
        count = len(dataset)
        gates, areas = [], []
        for index in torch.linspace(0, count - 1, min(IMAGES, count)).round().long().tolist():
            batch = dataset.__getitems__([index])
            if not len(batch["index"]) or not len(batch["boxes"][0]):
                continue
            images = self.task.prepare(batch, device)["images"]
            size = (images.shape[2], images.shape[3])
            areas.append(area_inside(batch["boxes"], size))
            if gated:
                with torch.no_grad(), capture(model) as seen:
                    model(images)
                spatial = [g for g in seen.values() if g.spatial_view() is not None]
                if spatial:
                    gates.append(torch.stack([spatial_energy(g, batch["boxes"], size) for g in spatial]).mean(0))
        return {"gate": _mean(gates), "area": _mean(areas)}


def _mean(found: list[Tensor]) -> float:
    return torch.cat(found).mean().item() if found else float("nan")
