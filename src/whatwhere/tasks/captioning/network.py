"""A captioner as its config says: encoder, frozen parts, the maps that are attended, decoder."""

from dataclasses import replace

import torch
from torch import nn

from ...checkpoints import build
from ...cost.counts import count_parameters
from ...errors import WhatwhereError
from ...graph.cut import cut, last_maps
from ...graph.operations import Graph
from ...networks.captioning.captioner import Captioner
from ...networks.features import stage_maps
from ...networks.freezing import freeze_stages
from ..task import CannotWiden
from .config import CaptionConfig

WIDEST = 4096
"""The longest state that the same-cost control gets."""


def build_captioner(config: CaptionConfig, vocabulary: int, size: int) -> Captioner:
    """Return the captioner of a config, on the CPU, ready to train.

    The encoder is made before the decoder, and the decoder's attention after everything else that all kinds have, so
    that captioners with different attention start from the same weights elsewhere.

    Args:
        config: see :class:`CaptionConfig`.
        vocabulary: how many words there are, end and unknown included.
        size: side of the images, in pixels.

    Raises:
        WhatwhereError: an encoder that cannot be cut, or maps that it does not have.
    """
    network = build(config.model, size=size).eval()
    _freeze(network, config, size)
    graph = _graph(network, size)
    points = config.points or last_maps(graph, config.layers)
    return Captioner(network, cut(graph, points), config.shape(vocabulary))


def _freeze(network: nn.Module, config: CaptionConfig, size: int) -> None:
    stages = config.trained_stages
    if stages is None:
        stages = 0 if config.model.trained else -1
    if stages == 0:
        network.requires_grad_(False)
    elif stages > 0:
        total = len(stage_maps(network, size))
        if stages > total:
            raise WhatwhereError(f"trained_stages={stages}: {config.model.name} has {total} stages")
        freeze_stages(network, total - stages, size)


def _graph(network: nn.Module, size: int) -> Graph:
    """Return the network's operations, recorded on a wide image where it takes one."""
    try:
        return Graph(network, torch.zeros(1, 3, size, 2 * size))
    except WhatwhereError:
        return Graph(network, torch.zeros(1, 3, size, size))


def wider_decoder(config: CaptionConfig, vocabulary: int, size: int, extra: int) -> dict[str, int]:
    """Return the sizes of a decoder without attention whose state is longer: the same-cost control.

    Args:
        config: of the captioner.
        vocabulary: how many words there are.
        size: side of the images.
        extra: how many parameters more it must have than the captioner without attention, at least.

    Raises:
        CannotWiden: no state is long enough.
    """
    shape = config.shape(vocabulary)
    plain = replace(config.untrained(), attention="none", layers=1)
    least = count_parameters(build_captioner(plain, vocabulary, size)) + extra
    for hidden in range(shape.hidden + 16, WIDEST + 1, 16):
        longer = replace(plain, hidden=hidden, word_dim=shape.word_dim, attention_dim=shape.attention_dim)
        if count_parameters(build_captioner(longer, vocabulary, size)) >= least:
            return {"hidden": hidden, "word_dim": shape.word_dim, "attention_dim": shape.attention_dim}
    raise CannotWiden(f"a state of {WIDEST} numbers is not enough for {extra:,} more parameters")
