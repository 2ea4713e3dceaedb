"""A detector as one function of its images, without the steps whose work depends on what is found: for export."""

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError, need
from .detectors import AsGiven


def is_detector(model: nn.Module) -> bool:
    """Whether a model is a detector of :func:`whatwhere.networks.detectors.build_detector`.

    torchvision's own resize and normalise their images first, which a dense form would leave out.

    Example:
        >>> is_detector(torch.nn.Conv2d(3, 8, 3))
        False
    """
    return isinstance(getattr(model, "transform", None), AsGiven)


class DenseDetector(nn.Module):
    """All boxes of a detector with one stage, before any is left out.

    torchvision's detectors then drop boxes with low scores and those that overlap better ones: how many remain depends
    on the image, which no exported program can follow for batches of any size. :func:`select` does it.

    Args:
        model: FCOS, RetinaNet or SSDlite of :func:`build_detector`, in evaluation mode; it is used, not copied.

    Shapes:
        images ``(N, 3, H, W)`` → ``boxes`` ``(N, A, 4)``: x1, y1, x2, y2 in pixels, inside the image, and ``scores``
        ``(N, A, classes)``, from 0 to 1, where A is the number of anchors.

    Raises:
        WhatwhereError: Faster R-CNN, whose second stage looks only at what the first has found.

    Example:
        >>> import whatwhere as ww
        >>> from whatwhere.networks.features import Features
        >>> from whatwhere.networks.detectors import DetectorShape, build_detector
        >>> body = Features(ww.build(ww.ModelConfig("small-resnet")), size=64, finest=4)
        >>> model = build_detector("fcos", body, DetectorShape(classes=3, size=64, channels=32)).eval()
        >>> [tuple(part.shape) for part in DenseDetector(model)(torch.randn(2, 3, 64, 64))]
        [(2, 340, 4), (2, 340, 3)]
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        if not hasattr(model, "head"):
            raise WhatwhereError(
                f"a {type(model).__name__} cannot be exported: its second stage looks only at the boxes that the first "
                "has found in an image. Export a detector with one stage: fcos, retinanet, ssdlite"
            )
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return all boxes and their scores."""
        model: Any = self.model
        image_list = need("torchvision.models.detection.image_list", extra="detect").ImageList
        features = list(model.backbone(images).values())
        height, width = images.shape[-2:]
        outputs = model.head(features)
        (anchors,) = model.anchor_generator(image_list(images, [(height, width)]), features)
        logits, offsets = outputs["cls_logits"], outputs["bbox_regression"]
        if "bbox_ctrness" in outputs:
            scores = (logits.sigmoid() * outputs["bbox_ctrness"].sigmoid()).sqrt()
            boxes = model.head.box_coder.decode(offsets, anchors)
        else:
            scores = logits.softmax(-1)[..., 1:] if model.transform.has_background else logits.sigmoid()
            coder = model.box_coder
            boxes = coder.decode_single(offsets.flatten(0, 1), anchors.repeat(images.shape[0], 1)).view_as(offsets)
        limit = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
        return boxes.clamp(min=0).minimum(limit), scores


def select(
    boxes: Tensor, scores: Tensor, *, score: float = 0.05, overlap: float = 0.5, most: int = 100
) -> dict[str, Tensor]:
    """Return what is found in one image: boxes with high scores that no better box of their class overlaps.

    Args:
        boxes: ``(A, 4)`` of :class:`DenseDetector`.
        scores: ``(A, classes)``.
        score: boxes with a lower score are left out.
        overlap: a box is left out where its intersection over union with a better one of its class is larger.
        most: how many boxes to return, at most.

    Returns:
        ``boxes`` ``(n, 4)``, ``labels`` ``int64 (n,)`` from 1, ``scores`` ``(n,)``, the highest first.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0]])
        >>> select(boxes, torch.tensor([[0.9], [0.8]]))["scores"]
        tensor([0.9000])
    """
    anchor, label = (scores > score).nonzero(as_tuple=True)
    found = scores[anchor, label]
    kept = need("torchvision.ops", extra="detect").batched_nms(boxes[anchor], found, label, overlap)[:most]
    return {"boxes": boxes[anchor[kept]], "labels": label[kept] + 1, "scores": found[kept]}
