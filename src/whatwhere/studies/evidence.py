"""Where trained networks look: how much of Grad-CAM and of the spatial gates lies on the object."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..data import ImageDataset
from ..errors import WhatwhereError
from ..training import load_run
from ..views import area_inside, attended, capture, energy_inside, grad_cam, spatial_energy

IMAGES = 128
"""Test images, evenly over the set, on which the shares are measured."""


@dataclass(frozen=True)
class Focus:
    """Mean shares that lie inside the objects' boxes, from 0 to 1.

    Attributes:
        grad_cam: of the Grad-CAM for the true class.
        gate: of the spatial gates, the mean over all sites (nan without spatial gates).
        area: of the image's area: what a map that knows nothing would have.
    """

    grad_cam: float
    gate: float
    area: float


def measure_focus(folder: Path, dataset: ImageDataset) -> Focus:
    """Measure one trained run on images with boxes.

    Raises:
        WhatwhereError: the images have no boxes.
    """
    if dataset.boxes is None:
        raise WhatwhereError("these images have no boxes to measure against")
    run = load_run(folder, "last")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = run.model.to(device).eval()
    chosen = torch.linspace(0, len(dataset) - 1, min(IMAGES, len(dataset))).round().long().tolist()
    batch = dataset.__getitems__(chosen)
    boxes = [dataset.boxes[i] for i in batch["index"].tolist()]
    images = run.task.prepare(batch, device, None)["images"]
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
    gate = torch.cat(gates).mean().item() if gates else float("nan")
    return Focus(torch.cat(grad_cams).mean().item(), gate, area_inside(boxes, size).mean().item())


def measure_all(
    folders: Mapping[str, Sequence[Path]], dataset: ImageDataset, on_run: Callable[[], None] = lambda: None
) -> dict[str, list[Focus]]:
    """Measure every run of every arm (arm → folders), in the order given; nothing where there are no boxes."""
    if dataset.boxes is None:
        return {}
    found: dict[str, list[Focus]] = {}
    for arm, paths in folders.items():
        found[arm] = []
        for path in paths:
            found[arm].append(measure_focus(path, dataset))
            on_run()
    return found
