"""How much of the energy of a map is inside the boxes of the objects."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import WhatwhereError
from ..layers import Gates

Boxes = Sequence[Tensor]


def energy_inside(maps: Tensor, boxes: Boxes, size: tuple[int, int] | None = None) -> Tensor:
    r"""Return the share of each map's energy that is inside the union of its boxes.

    .. math:: e = \sum_{p \in boxes} \max(m_p, 0) \;/\; \sum_p \max(m_p, 0)

    A constant map gives exactly the boxes' share of the area, :func:`area_inside`: the chance level. So does a map
    without energy (nowhere above 0), which prefers no position either.

    Args:
        maps: ``(N, H, W)``, any floating dtype, such as Grad-CAM.
        boxes: N tensors ``(k, 4)``: x1, y1, x2, y2 in pixels of the image (x2 and y2 exclusive). A pixel is inside if
            its centre is.
        size: (height, width) of the image that the boxes are for, to which the maps are resized bilinearly; by default
            the size of the maps.

    Returns:
        ``float64 (N,)`` in [0, 1]; 0 for an image without boxes.

    Raises:
        WhatwhereError: other shapes, another number of boxes than of maps, or maps that are not finite.

    Example:
        >>> import torch
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
        raise WhatwhereError(f"one tensor of boxes per map is needed: got {len(boxes)} for {len(maps)} maps")
    inside = _inside(boxes, (int(energy.shape[1]), int(energy.shape[2])))
    energy = energy.clamp(min=0)
    highest = energy.amax((1, 2), keepdim=True)
    energy = torch.where(highest > 0, energy / highest, 1.0)  # without energy: the same everywhere
    return (energy * inside).sum((1, 2)) / energy.sum((1, 2))


def area_inside(boxes: Boxes, size: tuple[int, int]) -> Tensor:
    """Return the share of each image's area that is inside the union of its boxes: the chance level.

    Args:
        boxes: N tensors ``(k, 4)``, see :func:`energy_inside`.
        size: (height, width) of the images in pixels.

    Returns:
        ``float64 (N,)`` in [0, 1].

    Example:
        >>> import torch
        >>> area_inside([torch.tensor([[0, 0, 24, 48], [0, 0, 12, 12]])], (48, 48))
        tensor([0.5000], dtype=torch.float64)
    """
    return _inside(boxes, size).double().mean((1, 2))


def spatial_energy(gates: Gates | Tensor, boxes: Boxes, size: tuple[int, int]) -> Tensor:
    """Return the share of the spatial gate that is inside the boxes, with the gate itself as the energy.

    A constant gate, whatever its value, gives exactly the chance level, :func:`area_inside`. The values of a gate
    differ little, so the share is close to that level: compare it with the chance level, not with 1.

    Args:
        gates: of an attention for N images, or its spatial gate alone as ``(N, H, W)`` or ``(N, 1, H, W)``.
        boxes: N tensors ``(k, 4)``, see :func:`energy_inside`.
        size: (height, width) of the images in pixels.

    Returns:
        ``float64 (N,)`` in [0, 1].

    Raises:
        WhatwhereError: an attention without a spatial gate (SE), and as in :func:`energy_inside`.

    Example:
        >>> import torch, whatwhere as ww
        >>> gates = ww.CBAM(16, identity=True).gates(torch.randn(1, 16, 4, 4))
        >>> spatial_energy(gates, [torch.tensor([[0, 0, 2, 2]])], (4, 4))
        tensor([0.2500], dtype=torch.float64)
    """
    view = gates.spatial_view() if isinstance(gates, Gates) else gates
    if view is None:
        raise WhatwhereError("these gates have no spatial part: take an attention of the kind 'spatial' or 'both'")
    return energy_inside(view[:, 0] if view.dim() == 4 and view.shape[1] == 1 else view, boxes, size)


def _inside(boxes: Boxes, size: tuple[int, int]) -> Tensor:
    """Return ``bool (N, H, W)``: whether the centre of each pixel is in the union of the boxes."""
    height, width = size
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    inside = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, found in zip(inside, boxes, strict=True):
        if found.numel() and (found.dim() != 2 or found.shape[1] != 4):
            raise WhatwhereError(f"boxes of shape (k, 4) are needed, got {tuple(found.shape)}")
        for x1, y1, x2, y2 in found.reshape(-1, 4).tolist():
            mask |= ((y >= y1) & (y < y2))[:, None] & ((x >= x1) & (x < x2))[None]
    return inside
