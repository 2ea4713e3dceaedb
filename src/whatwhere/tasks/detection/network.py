"""A detector as its config says: backbone, frozen parts, feature pyramid, heads, attention."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...checkpoints import build
from ...layers import parse
from ...networks.detectors import DetectorShape, build_detector, finest_stride
from ...networks.features import Features
from ...networks.freezing import freeze_norms, freeze_stages
from ...surgery import insert
from .config import DetectConfig

MULTIPLE = 32
"""Sides of a batch are multiples of this: the stride of the coarsest map of most networks."""


def build_network(
    config: DetectConfig, classes: int, size: int, *, images: Callable[[], Any] | None = None
) -> nn.Module:
    """Return the detector of a resolved config, on the CPU.

    Attention is put in last, so that a detector with attention has the same first weights everywhere else as one
    without.

    Args:
        config: see :meth:`DetectConfig.resolved`.
        classes: how many, without the background.
        size: longest side of the images, in pixels.
        images: see :func:`whatwhere.build`.
    """
    assert config.channels is not None
    assert config.frozen_stages is not None
    side = round_up(size)
    network = build(replace(config.model, attention="none"), size=side, images=images)
    if config.frozen_norms:
        network = freeze_norms(network)
    freeze_stages(network, config.frozen_stages, side)
    body = Features(network, side, finest_stride(config.detector, size))
    model = build_detector(config.detector, body, DetectorShape(classes, size, config.channels))
    spec = parse(config.model.attention)
    if spec.name != "none":
        image = torch.zeros(1, 3, side, side)
        if config.where != "fpn":
            insert(body, spec.name, identity=spec.identity, example=image, **spec.options)
        if config.where != "backbone":
            where = "fpn.layer_blocks.?"
            insert(model.backbone, spec.name, where, identity=spec.identity, example=image, **spec.options)  # type: ignore[arg-type]
    return model


def round_up(side: int) -> int:
    """Return the next multiple of :data:`MULTIPLE`.

    Example:
        >>> round_up(96), round_up(97)
        (96, 128)
    """
    return -(-side // MULTIPLE) * MULTIPLE
