"""Grad-CAM of a box: which positions of an image speak for the score of one detection."""

import contextlib
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError
from ..graph.guard import evaluation_mode
from ..graph.wrappers import unwrap
from .grad_cam import grad_cam


class _Scores(nn.Module):
    """The scores of a detector's boxes in one image, ``(1, n)``, as if they were those of classes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        (found,) = self.model(image)
        scores: Tensor = found["scores"]
        return scores[None]


def box_grad_cam(model: nn.Module, image: Tensor, box: int = 0) -> Tensor:
    """Return Grad-CAM for the score of one box, on the map of the feature pyramid on which that score depends most.

    Grad-CAM weighs a channel by its mean gradient over all positions. It therefore also lights up other objects of the
    same kind: it shows what in the image looks like this box to the detector.

    Args:
        model: one of torchvision's detectors, with a feature pyramid ``backbone.fpn``; it is left as it was.
        image: ``(1, 3, H, W)``, as the model takes it.
        box: the number of the box, 0 for that with the highest score.

    Returns:
        ``float32 (H, W)`` in [0, 1] on the CPU.

    Raises:
        WhatwhereError: the detector finds no such box, or has no feature pyramid with maps of more than one position,
            or there is more than one image.

    Example:
        >>> import torch, whatwhere as ww
        >>> from whatwhere.networks.features import Features
        >>> from whatwhere.networks.detectors import DetectorShape, build_detector
        >>> body = Features(ww.build(ww.ModelConfig("small-resnet")), size=64, finest=4)
        >>> model = build_detector("fcos", body, DetectorShape(classes=3, size=64, channels=32, score=0.0))
        >>> box_grad_cam(model, torch.randn(1, 3, 64, 96)).shape
        torch.Size([64, 96])
    """
    root: Any = unwrap(model)
    if image.dim() != 4 or len(image) != 1:
        raise WhatwhereError(f"one image (1, 3, H, W) is needed, got {tuple(image.shape)}")
    maps: dict[str, Tensor] = {}
    with (
        evaluation_mode(root, freeze=True),
        torch.inference_mode(False),
        torch.enable_grad(),
        contextlib.ExitStack() as undo,
    ):
        for name, module in _pyramid(root).items():
            undo.callback(module.register_forward_hook(partial(_note, maps, name)).remove)
        start = image.detach().clone().requires_grad_()
        scores = _Scores(root)(start)[0]
        if not 0 <= box < len(scores):
            raise WhatwhereError(f"there is no box {box}: the detector finds {len(scores)} in this image")
        names = [name for name, one in maps.items() if one.shape[2] * one.shape[3] > 1]
        if not names:
            raise WhatwhereError("the feature pyramid has no map of more than one position: take a larger image")
        gradients = torch.autograd.grad(scores[box], [maps[name] for name in names], allow_unused=True)
        strengths = [0.0 if one is None else float(one.abs().sum()) for one in gradients]
        chosen = names[max(range(len(names)), key=strengths.__getitem__)]
        return grad_cam(_Scores(root), image, [box], layer=f"model.{chosen}")[0]


def _note(maps: dict[str, Tensor], name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
    if isinstance(output, Tensor) and output.ndim == 4:
        maps[name] = output


def _pyramid(model: Any) -> dict[str, nn.Module]:
    """Return the modules that make the maps of the feature pyramid, by name."""
    pyramid = getattr(getattr(model, "backbone", None), "fpn", None)
    if pyramid is None:
        raise WhatwhereError(f"{type(model).__name__} has no feature pyramid backbone.fpn, as a detector of ours has")
    found = {f"backbone.fpn.layer_blocks.{name}": module for name, module in pyramid.layer_blocks.named_children()}
    if pyramid.extra_blocks is not None:
        extra = pyramid.extra_blocks.named_children()
        found |= {f"backbone.fpn.extra_blocks.{name}": module for name, module in extra}
    return found
