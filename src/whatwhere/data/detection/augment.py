"""Augmentation of images with boxes, by torchvision.transforms.v2."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import WhatwhereError, closest, need

AUGMENTATIONS = ("light", "none")
SCALES = (0.75, 4 / 3)
"""The least and the largest factor on an image's sides."""
SEEN = 0.2
"""A box of which less than this share is left in the image is no object any more."""


def augment_detection(
    images: Sequence[Tensor],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    name: str,
    *,
    flip: bool,
    generator: torch.Generator,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Augment images with their boxes, each in its own way, on any device.

    "light" mirrors half of the images where ``flip`` allows it, changes brightness, contrast and saturation, and scales
    by 0.75 to 4/3: a larger image is cut to its old size at a random position, a smaller one stays smaller. Boxes are
    cut off at the edge; where less than a fifth of a box is left, it goes with its label. "none" changes nothing.

    Args:
        images: B tensors ``uint8 (3, h, w)``.
        boxes: B tensors ``(k, 4)``: x1, y1, x2, y2 in pixels.
        labels: B tensors ``(k,)``.
        name: "light" or "none".
        flip: whether images may be mirrored.
        generator: on the CPU; what is drawn is a pure function of its state. torch's own random numbers stay as they
            are.

    Returns:
        Images, boxes and labels.

    Raises:
        WhatwhereError: an unknown name, or a generator on another device.

    Example:
        >>> import torch
        >>> images, boxes = [torch.zeros(3, 48, 64, dtype=torch.uint8)], [torch.tensor([[10.0, 10.0, 30.0, 40.0]])]
        >>> generator = torch.Generator().manual_seed(0)
        >>> new, _, _ = augment_detection(images, boxes, [torch.tensor([3])], "light", flip=True, generator=generator)
        >>> new[0].dtype, new[0].shape[0]
        (torch.uint8, 3)
    """
    if name not in AUGMENTATIONS:
        raise WhatwhereError(
            f"augment must be one of {', '.join(AUGMENTATIONS)}, got {name!r}{closest(name, AUGMENTATIONS)}"
        )
    if generator.device.type != "cpu":
        raise WhatwhereError(
            f"augmentation needs a generator on the CPU, got one on {generator.device}: give torch.Generator()"
        )
    if name == "none":
        return list(images), list(boxes), list(labels)
    with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's own random numbers
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        found = [_light(*one, flip) for one in zip(images, boxes, labels, strict=True)]
    return [one[0] for one in found], [one[1] for one in found], [one[2] for one in found]


def _light(image: Tensor, boxes: Tensor, labels: Tensor, flip: bool) -> tuple[Tensor, Tensor, Tensor]:
    tv = need("torchvision.tv_tensors", extra="detect")
    height, width = image.shape[1:]
    scaled: Any = tv.Image(image)
    kept: Any = tv.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))
    v2 = need("torchvision.transforms.v2", extra="detect")
    for transform in _transforms(flip):
        scaled, kept = transform(scaled, kept)
    scale = float(torch.empty(()).uniform_(*SCALES))  # v2.ScaleJitter takes height for width where they differ
    sides = [max(1, round(side * scale)) for side in (height, width)]
    scaled, kept = v2.functional.resize(scaled, sides), v2.functional.resize(kept, sides)
    factor = scaled.shape[1] * scaled.shape[2] / (height * width)
    if scaled.shape[1] > height or scaled.shape[2] > width:
        scaled, kept = v2.RandomCrop((min(height, scaled.shape[1]), min(width, scaled.shape[2])))(scaled, kept)
    left = kept.as_subclass(Tensor)
    extent = left[:, 2:] - left[:, :2]
    whole = (boxes[:, 2:] - boxes[:, :2]).prod(1) * factor
    good = (extent >= 1).all(1) & (extent.prod(1) >= SEEN * whole)
    return scaled.as_subclass(Tensor), left[good], labels[good]


def _transforms(flip: bool) -> list[Any]:
    v2 = need("torchvision.transforms.v2", extra="detect")
    return [
        *([v2.RandomHorizontalFlip()] if flip else []),
        v2.ColorJitter(brightness=0.125, contrast=0.25, saturation=0.25),
    ]
