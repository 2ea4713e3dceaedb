"""Augmentation: small random changes to a whole batch of images at once, on any device."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import WhatwhereError, closest


class Moves(NamedTuple):
    """How each image of a batch is moved: ``down`` and ``right`` in pixels, int64 (B,); ``mirror``, bool (B,)."""

    down: Tensor
    right: Tensor
    mirror: Tensor


def draw_moves(batch: int, height: int, width: int, *, flip: bool, generator: torch.Generator) -> Moves:
    """Draw a shift by up to 1/8 of each side and, with ``flip``, whether to mirror (half of the images) for each image.

    ``generator`` must be on the CPU, so that the same seed moves images in the same way on every device.

    Raises:
        WhatwhereError: a generator on another device.

    Example:
        >>> import torch
        >>> moves = draw_moves(4, 48, 48, flip=False, generator=torch.Generator().manual_seed(0))
        >>> moves.mirror
        tensor([False, False, False, False])
    """
    if generator.device.type != "cpu":
        raise WhatwhereError(
            f"augmentation needs a generator on the CPU, got one on {generator.device}: give torch.Generator()"
        )
    down, right = (
        torch.randint(-(side // 8), side // 8 + 1, (batch,), generator=generator) for side in (height, width)
    )
    mirror = torch.rand(batch, generator=generator) < 0.5
    return Moves(down, right, mirror if flip else torch.zeros_like(mirror))


def move(images: Tensor, moves: Moves) -> Tensor:
    """Mirror, then shift each image of ``images`` ``(B, C, H, W)``, of any dtype; edges are filled by reflection.

    out[b, c, y, x] = m[b, c, reflect(y - down[b]), reflect(x - right[b])], where m is the image or its mirror image.

    Example:
        >>> import torch
        >>> still, right = torch.tensor([0]), torch.tensor([1])
        >>> move(torch.arange(4.0).view(1, 1, 1, 4), Moves(still, right, torch.tensor([False]))).flatten()
        tensor([1., 0., 1., 2.])
    """
    batch, channels, height, width = images.shape
    rows = _reflect(torch.arange(height) - moves.down[:, None], height)
    columns = _reflect(torch.arange(width) - moves.right[:, None], width)
    columns = torch.where(moves.mirror[:, None], width - 1 - columns, columns)
    positions = (rows[:, :, None] * width + columns[:, None, :]).reshape(batch, 1, height * width)
    positions = positions.to(images.device, non_blocking=True).expand(batch, channels, height * width)
    return images.reshape(batch, channels, height * width).gather(2, positions).view(batch, channels, height, width)


def _reflect(position: Tensor, side: int) -> Tensor:
    """Fold positions outside 0 … side - 1 back inside; the edge pixel itself is not repeated."""
    return (side - 1 - (side - 1 - position.abs()).abs()) if side > 1 else torch.zeros_like(position)


def _light(images: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    moves = draw_moves(len(images), images.shape[-2], images.shape[-1], flip=flip, generator=generator)
    return move(images, moves)


def _none(images: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    return images


AUGMENTATIONS: dict[str, Callable[[Tensor, bool, torch.Generator], Tensor]] = {"light": _light, "none": _none}


def augment(images: Tensor, name: str, *, flip: bool, generator: torch.Generator) -> Tensor:
    """Augment a batch ``(B, C, H, W)``, uint8 or floating, on any device.

    Args:
        images: the batch.
        name: "light" shifts each image by up to 1/8 of its side, with reflected edges, and mirrors half of the images
            where ``flip`` allows it; "none" returns the images as they are.
        flip: whether images may be mirrored, see :attr:`ImageDataset.flip`.
        generator: draws everything that is random; on the CPU.

    Returns:
        A new batch of the same shape, dtype and device.

    Raises:
        WhatwhereError: an unknown name, or a generator on another device.

    Example:
        >>> import torch
        >>> images = torch.zeros(4, 3, 48, 48, dtype=torch.uint8)
        >>> augment(images, "light", flip=True, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 48, 48])
    """
    if name not in AUGMENTATIONS:
        raise WhatwhereError(
            f"augment must be one of {', '.join(AUGMENTATIONS)}, got {name!r}{closest(name, AUGMENTATIONS)}"
        )
    return AUGMENTATIONS[name](images, flip, generator)
