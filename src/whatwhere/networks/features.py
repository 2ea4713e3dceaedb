"""The maps of a classification network's stages: what a detector or a captioner is built on."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError
from ..graph.guard import evaluation_mode


class Features(nn.Module):
    """A network without its classifier that returns the maps of some of its stages.

    The network has timm's interface for this, as all of timm's networks and whatwhere's own have:
    ``forward_intermediates(images, indices=…, intermediates_only=True)`` and ``prune_intermediate_layers``. What comes
    after the last map is taken out of it.

    Args:
        network: a classification network; it is changed.
        size: side of the images, in pixels, on which the maps are looked at once.
        finest: the smallest stride that is wanted.

    Shapes:
        images ``(N, 3, H, W)`` → ``OrderedDict`` of maps ``(N, C, H / stride, W / stride)``, named "0", "1", …, from
        the largest to the smallest: the last map of each stride that is at least ``finest``.

    Attributes:
        channels: of each map.
        strides: of each map.
        indices: of each map among all that the network has.

    Raises:
        WhatwhereError: the network has not this interface, or no map of a wanted stride.

    Example:
        >>> import torch, whatwhere as ww
        >>> features = Features(ww.build(ww.ModelConfig("small-resnet")), size=64, finest=4)
        >>> features.strides, [tuple(map.shape) for map in features(torch.randn(2, 3, 64, 96)).values()]
        ([4, 8], [(2, 32, 16, 24), (2, 64, 8, 12)])
    """

    def __init__(self, network: nn.Module, size: int, finest: int = 1) -> None:
        super().__init__()
        maps = stage_maps(network, size)
        chosen: dict[int, int] = {}
        for index, one in enumerate(maps):
            if one.ndim == 4 and (stride := round(size / one.shape[-1])) >= finest:
                chosen[stride] = index
        if not chosen:
            strides = sorted({round(size / one.shape[-1]) for one in maps if one.ndim == 4})
            raise WhatwhereError(
                f"{type(network).__name__} has no map with a stride of at least {finest}: its maps have the strides "
                f"{', '.join(map(str, strides)) or 'none'}"
            )
        self.strides = sorted(chosen)
        self.indices = [chosen[stride] for stride in self.strides]
        self.channels = [int(maps[index].shape[1]) for index in self.indices]
        whole: Any = network
        whole.prune_intermediate_layers(self.indices, prune_norm=True)
        self.network: Any = whole

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Return the maps of ``images`` by name."""
        maps = self.network.forward_intermediates(images, indices=self.indices, intermediates_only=True)
        return OrderedDict((str(number), one) for number, one in enumerate(maps))


def stage_maps(network: Any, size: int, *, gradients: bool = False) -> Sequence[Tensor]:
    """Return all maps that a network's ``forward_intermediates`` gives for an image of zeros, in evaluation mode.

    Raises:
        WhatwhereError: the network has no such method.

    Example:
        >>> import whatwhere as ww
        >>> [tuple(map.shape) for map in stage_maps(ww.build(ww.ModelConfig("small-resnet")), size=48)]
        [(1, 16, 24, 24), (1, 32, 12, 12), (1, 64, 6, 6)]
    """
    if not hasattr(network, "forward_intermediates"):
        raise WhatwhereError(
            f"{type(network).__name__} does not give the maps of its stages (forward_intermediates): take a network of "
            "timm's or of whatwhere's own"
        )
    like = next(network.parameters())
    with evaluation_mode(network), torch.set_grad_enabled(gradients):
        images = torch.zeros(1, 3, size, size, device=like.device, dtype=like.dtype)
        found: Sequence[Tensor] = network.forward_intermediates(images, intermediates_only=True)
    return found
