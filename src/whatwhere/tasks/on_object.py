"""Where a classifier looks: how much of Grad-CAM and of the spatial gates lies on the object."""

import torch
from torch import nn

from ..data import ImageDataset
from ..errors import WhatwhereError
from ..views import area_inside, attended, capture, energy_inside, grad_cam, spatial_energy
from .metric import Metric
from .task import Evidence, Task

IMAGES = 128
"""Test images, evenly over the set, on which the shares are measured."""


class OnObject(Evidence):
    """Mean shares, from 0 to 1, of the Grad-CAM for the true class and of the spatial gates inside the objects' boxes.

    The share of the gates is the mean over all sites, nan for a network without spatial gates. The share of the area is
    what a map that is the same everywhere has.

    Args:
        task: the task, which prepares the images.
        dataset: test images with boxes.

    Raises:
        WhatwhereError: the images have no boxes.
    """

    columns = (
        Metric("grad_cam", "Grad-CAM on object", unit="%", scale=100),
        Metric("gate", "gate on object", unit="%", scale=100),
    )
    chance = Metric(
        "area",
        "area of objects",
        unit="%",
        scale=100,
        sentence="The objects fill {} of the image: the share on the object of a map without information.",
    )
    reading = (
        "On object: the share of Grad-CAM for the true class, and of the spatial gates, that falls inside the "
        "object's box."
    )

    def __init__(self, task: Task, dataset: ImageDataset) -> None:
        if dataset.boxes is None:
            raise WhatwhereError("these images have no boxes to measure against")
        self.task = task
        self.dataset = dataset
        self.boxes = dataset.boxes

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Return ``grad_cam``, ``gate`` and ``area`` of one trained network."""
        model = model.eval()
        device = next(model.parameters()).device
        count = len(self.dataset)
        chosen = torch.linspace(0, count - 1, min(IMAGES, count)).round().long().tolist()
        batch = self.dataset.__getitems__(chosen)
        boxes = [self.boxes[i] for i in batch["index"].tolist()]
        images = self.task.prepare(batch, device)["images"]
        size = (images.shape[2], images.shape[3])
        grad_cams, gates = [], []
        for start in range(0, len(images), 32):
            part, inside = images[start : start + 32], boxes[start : start + 32]
            maps = grad_cam(model, part, batch["labels"][start : start + 32])
            grad_cams.append(energy_inside(maps, inside, size))
            if attended(model):
                with torch.no_grad(), capture(model) as seen:
                    model(part)
                spatial = [g for g in seen.values() if g.spatial_view() is not None]
                if spatial:
                    gates.append(torch.stack([spatial_energy(g, inside, size) for g in spatial]).mean(0))
        return {
            "grad_cam": torch.cat(grad_cams).mean().item(),
            "gate": torch.cat(gates).mean().item() if gates else float("nan"),
            "area": area_inside(boxes, size).mean().item(),
        }
