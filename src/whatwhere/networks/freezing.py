"""Parts of a trained network that stay as they are while the rest is trained on."""

import torch
from torch import nn

from ..errors import WhatwhereError, need
from .features import stage_maps


def freeze_norms(network: nn.Module) -> nn.Module:
    """Put frozen batch normalisations in place of a network's own and return it: their statistics and weights stay.

    A batch of a few large images has statistics too poor to normalise by, so detectors are trained with those of the
    classifier that they start from, as in torchvision's references. Do it before attention is inserted, whose own
    normalisations are trained.

    Example:
        >>> import torch, whatwhere as ww
        >>> network = freeze_norms(ww.build(ww.ModelConfig("small-resnet")))
        >>> sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
        0
    """
    frozen: nn.Module = need("timm.layers", extra="train").freeze_batch_norm_2d(network)
    return frozen


def freeze_stages(network: nn.Module, stages: int, size: int) -> None:
    """Let the first ``stages`` stages of a network learn nothing: all parameters that the map of the last of them
    depends on.

    Args:
        network: a network with ``forward_intermediates``; a ResNet's stages are the stem and its four layers.
        stages: how many; 0 freezes nothing.
        size: side of the image, in pixels, that is run through it once.

    Raises:
        WhatwhereError: more stages than the network has.

    Example:
        >>> import whatwhere as ww
        >>> network = ww.build(ww.ModelConfig("small-resnet"))
        >>> freeze_stages(network, 1, size=48)
        >>> [name for name, parameter in network.named_parameters() if not parameter.requires_grad][:2]
        ['stem.0.weight', 'stem.1.weight']
    """
    if stages == 0:
        return
    maps = stage_maps(network, size, gradients=True)
    if stages > len(maps):
        raise WhatwhereError(f"{type(network).__name__} has {len(maps)} stages: {stages} cannot be frozen")
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(maps[stages - 1].sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.requires_grad_(False)
