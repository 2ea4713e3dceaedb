"""The maps of a network's stages, in the form in which timm's networks give theirs."""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from ..errors import WhatwhereError


def intermediates(
    x: Tensor, stages: Iterable[nn.Module], indices: Sequence[int] | None, *, intermediates_only: bool
) -> list[Tensor]:
    """Run stages one after the other and return the maps of those with these indices, by default of all.

    For a method ``forward_intermediates``, of whose options in timm only these are known.

    Raises:
        WhatwhereError: ``intermediates_only=False``.

    Example:
        >>> import torch
        >>> stages = [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)]
        >>> [map.shape[1] for map in intermediates(torch.randn(1, 3, 9, 9), stages, None, intermediates_only=True)]
        [8, 4]
    """
    if not intermediates_only:
        raise WhatwhereError("forward_intermediates of this network returns the maps only: intermediates_only=True")
    maps = []
    for stage in stages:
        x = stage(x)
        maps.append(x)
    return maps if indices is None else [maps[index] for index in indices]
