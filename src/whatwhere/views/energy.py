"""How much of what a map says lies inside the boxes of the objects."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import WhatwhereError
from ..layers import Gates

Boxes = Sequence[Tensor]


def energy_inside(maps: Tensor, boxes: Boxes, size: tuple[int, int] | None = None) -> Tensor:
    r"""Return the share of each map's energy that lies inside the union of its boxes.

    .. math:: e = \sum_{p \in boxes} \max(m_p, 0) \;/\; \sum_p \max(m_p, 0)

    A map that is the same everywhere has exactly the share of the area, see :func:`area_inside`: this is the chance level. So has a map
    without any energy (nowhere above 0), which prefers no site either.

    Args:
        maps: ``(N, H, W)``, any float dtype, such as Grad-CAM.
        boxes: N tensors ``(k, 4)``: x1, y1, x2, y2 in pixels of the image (x2 and y2 just outside); a pixel is inside if its centre is.
        size: (height, width) of the image that the boxes are for, to which the maps are resized bilinearly; by default the maps' own.

    Returns:
        ``float64 (N,)`` in [0, 1]; 0 for an image without boxes.

    Raises:
        WhatwhereError: other shapes than these, as many boxes as maps are not given, or maps that are not finite.

    Example:
        >>> energy_inside(torch.ones(1, 4, 4), [torch.tensor([[0, 0, 2, 2]])])
        tensor([0.2500], dtype=torch.float64)
    """
    if maps.dim() != 3 or min(maps.shape[1:]) == 0:
        raise WhatwhereError(f"maps of shape (N, H, W) are needed, got {tuple(maps.shape)}")
    energy = maps.detach().double().cpu()
    if not torch.isfinite(energy).all():
        raise WhatwhereError("the maps hold values that are not finite (NaN or infinity)")
    if size is not None and tuple(maps.shape[1:]) != tuple(size):
        energy = F.interpolate(energy[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]
    if len(boxes) != len(maps):
        raise WhatwhereError(f"one set of boxes per map is needed: got {len(boxes)} for {len(maps)} maps")
    inside = _inside(boxes, (int(energy.shape[1]), int(energy.shape[2])))
    energy = energy.clamp(min=0)
    highest = energy.amax((1, 2), keepdim=True)
    energy = torch.where(highest > 0, energy / highest, 1.0)  # without energy: the same everywhere
    return (energy * inside).sum((1, 2)) / energy.sum((1, 2))


def area_inside(boxes: Boxes, size: tuple[int, int]) -> Tensor:
    """Return the share of each image's area that lies inside the union of its boxes: what a map that knows nothing has.

    Args:
        boxes: N tensors ``(k, 4)``, see :func:`energy_inside`.
        size: (height, width) of the images in pixels.

    Returns:
        ``float64 (N,)`` in [0, 1].

    Example:
        >>> area_inside([torch.tensor([[0, 0, 24, 48], [0, 0, 12, 12]])], (48, 48))
        tensor([0.5000], dtype=torch.float64)
    """
    return _inside(boxes, size).double().mean((1, 2))


def spatial_energy(gates: Gates | Tensor, boxes: Boxes, size: tuple[int, int]) -> Tensor:
    """Return the share of the spatial gate that lies inside the boxes, the gate itself taken as energy.

    A gate that is the same everywhere, whatever its value, has exactly the chance level, :func:`area_inside`. Gates are never far from
    each other, so the share is near it too: compare it with the chance level, not with 1.

    Args:
        gates: of an attention, for N images, or its spatial gate alone as ``(N, H, W)`` or ``(N, 1, H, W)``.
        boxes: N tensors ``(k, 4)``, see :func:`energy_inside`.
        size: (height, width) of the images in pixels.

    Returns:
        ``float64 (N,)`` in [0, 1].

    Raises:
        WhatwhereError: an attention without a spatial gate (SE), and as in :func:`energy_inside`.
    """
    view = gates.spatial_view() if isinstance(gates, Gates) else gates
    if view is None:
        raise WhatwhereError("these gates have no spatial part: only attentions such as CBAM, SAM and BAM say where")
    return energy_inside(view[:, 0] if view.dim() == 4 and view.shape[1] == 1 else view, boxes, size)


def _inside(boxes: Boxes, size: tuple[int, int]) -> Tensor:
    """Return ``bool (N, H, W)``: which pixels' centres are in the union of the boxes."""
    height, width = size
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    inside = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, found in zip(inside, boxes, strict=True):
        if found.numel() and (found.dim() != 2 or found.shape[1] != 4):
            raise WhatwhereError(f"boxes of shape (k, 4) are needed, got {tuple(found.shape)}")
        for x1, y1, x2, y2 in found.reshape(-1, 4).tolist():
            mask |= ((y >= y1) & (y < y2))[:, None] & ((x >= x1) & (x < x2))[None]
    return inside
