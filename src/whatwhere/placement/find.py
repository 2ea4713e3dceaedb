"""Finding the sites for attention in a network from one recorded forward pass, not from its name."""

import warnings
from typing import Any

from torch import nn

from ..graph.trace import trace
from ..layers import Attention
from .choice import choose
from .finder import Finder
from .site import At, Kind, Side, Site, Stages

__all__ = ["At", "Kind", "Side", "Site", "Stages", "find", "sites"]


def sites(model: nn.Module, example: Any = None, *, at: At | None = None, stages: Stages | None = None) -> list[Site]:
    """Find the sites for attention in a convolutional network.

    The model runs once, in evaluation mode and without gradients, and is left exactly as it was. The sites are

    - **residual**, as in the papers: the last layer of every residual branch, before the add. Where the branch ends in
      a layer scale (ConvNeXt, PoolFormer, NFNet: a multiplication by learned numbers that start near 0), the last layer
      in front of the scale, also if that returns ``(N, H, W, C)``, or the input of the scale. A gate multiplies, so its
      effect is the same on both sides of the scale; but in front of it the attention sees the map itself, and not one
      shrunk by a factor such as 1e-6, from which no gate could learn;
    - **stage**, in networks without residual adds (VGG, DenseNet, Inception): the end of each stage, the last map
      before the resolution changes, where that stage has two convolutions or more. A network with residual adds in
      fewer than half of its stages (MobileViT, HGNet) has the ends of the others besides.

    Where there are none of these and no tokens, one convolution is enough for a residual branch (ResNet in ResNet) and
    for a stage (Darknet's reference network, with one convolution between two poolings), if that gives two sites or
    more.

    A stage is a resolution: :attr:`Site.stage` counts the different sizes (H, W) of all these sites, and of those that
    ``at`` adds, from the most pixels (0) to the fewest. Two parts of a network at one resolution (encoder and decoder)
    are one stage.

    Args:
        model: any network whose feature maps are ``(N, C, H, W)``.
        example: a tensor (or tuple of arguments) to run it on; by default one image of the size that the model's
            config names (timm), else 224 × 224.
        at: which sites. A glob such as ``"layer4.*"`` over the names of the sites; if it matches none, over the names
            of all modules: those that return a ``(N, C, H, W)`` map and run once are taken (``nn.Sequential`` and its
            like stand for the module in them that makes it). Or ``"residual"`` or ``"stage"``, that kind alone; or
            ``"norm"``, every normalisation layer directly after a convolution. Or a list of all these or of sites; or a
            function that says True of a :class:`Site`.
        stages: which stages, such as ``(-2, -1)`` for the last two.

    Returns:
        The sites in order of execution.

    Raises:
        WhatwhereError: the model does not run on the example, has no such site, or ``at`` or ``stages`` names what is
            not there; the message lists what is.

    Example:
        >>> import torchvision, whatwhere as ww
        >>> model = torchvision.models.resnet18()
        >>> ww.sites(model)[0].module
        'layer1.0.bn2'
        >>> [site.module for site in ww.sites(model, at="layer?", stages=-1)]
        ['layer4.1']
    """
    return find(model, example, at, stages)


def find(model: nn.Module, example: Any, at: At | None, stages: Stages | None) -> list[Site]:
    """Find sites as :func:`sites` does; warnings point at the caller's caller."""
    finder = Finder(model, trace(model, example, hidden=Attention))
    chosen = choose(finder, at, stages)
    if finder.missed and (at is None or at == "residual"):
        warnings.warn(
            f"{len(finder.missed)} of {len(finder.adds)} residual adds of {type(model).__name__} have no module of "
            "their own before them (made by functions, or by modules that run several times), e.g. the add with "
            f"{finder.origin(finder.missed[0].shortcut)}; attention cannot go there",
            stacklevel=3,
        )
    return chosen
