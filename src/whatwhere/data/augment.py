"""Changing images a little, a whole batch at once, on any device."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import WhatwhereError, closest


class Moves(NamedTuple):
    """How each image of a batch is moved: ``down`` and ``right`` in pixels, int64 (B,); ``mirror``: bool (B,)."""

    down: Tensor
    right: Tensor
    mirror: Tensor


def draw_moves(batch: int, height: int, width: int, *, flip: bool, generator: torch.Generator) -> Moves:
    """Draw shifts by up to 1/8 of each side and, with ``flip``, mirrorings of every second image.

    ``generator`` lives on the CPU, so that the same images move the same way on every device.
    """
    if generator.device.type != "cpu":
        raise WhatwhereError(
            f"augmentation draws from a CPU generator, not one on {generator.device}: torch.Generator()"
        )
    down, right = (
        torch.randint(-(side // 8), side // 8 + 1, (batch,), generator=generator) for side in (height, width)
    )
    mirror = torch.rand(batch, generator=generator) < 0.5
    return Moves(down, right, mirror if flip else torch.zeros_like(mirror))


def move(images: Tensor, moves: Moves) -> Tensor:
    """Mirror, then shift each image of ``images`` (B, C, H, W), any dtype; what comes in at the edges is reflected.

    out[b, c, y, x] = m[b, c, reflect(y - down[b]), reflect(x - right[b])], with m the image or its mirror image.
    """
    batch, channels, height, width = images.shape
    rows = _reflect(torch.arange(height) - moves.down[:, None], height)
    columns = _reflect(torch.arange(width) - moves.right[:, None], width)
    columns = torch.where(moves.mirror[:, None], width - 1 - columns, columns)
    positions = (rows[:, :, None] * width + columns[:, None, :]).reshape(batch, 1, height * width)
    positions = positions.to(images.device, non_blocking=True).expand(batch, channels, height * width)
    return images.reshape(batch, channels, height * width).gather(2, positions).view(batch, channels, height, width)


def _reflect(position: Tensor, side: int) -> Tensor:
    """Fold positions outside 0 … side - 1 back inside, as in a mirror that stands on the edge's pixel."""
    return (side - 1 - (side - 1 - position.abs()).abs()) if side > 1 else torch.zeros_like(position)


def _light(images: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    moves = draw_moves(len(images), images.shape[-2], images.shape[-1], flip=flip, generator=generator)
    return move(images, moves)


def _none(images: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    return images


AUGMENTATIONS: dict[str, Callable[[Tensor, bool, torch.Generator], Tensor]] = {"light": _light, "none": _none}


def augment(images: Tensor, name: str, *, flip: bool, generator: torch.Generator) -> Tensor:
    """Augment a batch ``(B, C, H, W)``, uint8 or floating, on any device; returns a new batch of the same kind.

    "light" shifts each image by up to 1/8 of its side with reflected edges and, where ``flip`` is True (give the set's
    ``.flip``), mirrors every second one; "none" returns ``images`` as they are. All chance comes from ``generator``, on the CPU.

    >>> images = torch.zeros(4, 3, 48, 48, dtype=torch.uint8)
    >>> augment(images, "light", flip=True, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([4, 3, 48, 48])
    """
    if name not in AUGMENTATIONS:
        raise WhatwhereError(
            f"augment is one of {', '.join(AUGMENTATIONS)}, not {name!r}{closest(name, AUGMENTATIONS)}"
        )
    return AUGMENTATIONS[name](images, flip, generator)
