"""torchvision's detectors on the maps of any classification network."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..errors import WhatwhereError, closest, need
from .features import Features

SMALL_IMAGE = 200
"""Images whose longest side is below this have small objects: a detector then looks at maps of half the stride."""


@dataclass(frozen=True)
class DetectorShape:
    """The widths of a detector beside its backbone, and which of its boxes it returns.

    Attributes:
        classes: how many classes, without the background.
        size: longest side of the images, in pixels.
        channels: of the feature pyramid and of the heads, a multiple of 32.
        score: the lowest score of a box that is returned.
        boxes: the most boxes that are returned for an image.
    """

    classes: int
    size: int
    channels: int = 256
    score: float = 0.05
    boxes: int = 100

    def __post_init__(self) -> None:
        for right, what in (
            (self.classes >= 1, f"classes={self.classes}: must be at least 1"),
            (self.channels >= 32 and self.channels % 32 == 0, f"channels={self.channels}: must be a multiple of 32"),
            (self.size >= 32, f"size={self.size}: must be at least 32 pixels"),
            (0 <= self.score < 1, f"score={self.score}: must be from 0 up to, but not, 1"),
            (self.boxes >= 1, f"boxes={self.boxes}: must be at least 1"),
        ):
            if not right:
                raise WhatwhereError(what)


class Pyramid(nn.Module):
    """A backbone: the maps of a network and a feature pyramid over them, as torchvision's detectors take it.

    Args:
        body: the maps.
        channels: of every map that is returned.
        extra: torchvision's ``ExtraFPNBlock`` that makes coarser maps.

    Shapes:
        images ``(N, 3, H, W)`` → maps ``(N, channels, H / stride, W / stride)`` by name.
    """

    def __init__(self, body: Features, channels: int, extra: nn.Module) -> None:
        super().__init__()
        ops = need("torchvision.ops", extra="detect")
        self.body = body
        self.fpn = ops.FeaturePyramidNetwork(body.channels, channels, extra)
        self.out_channels = channels

    def forward(self, images: Tensor) -> Any:
        """Return the maps of ``images``, the largest first."""
        return self.fpn(self.body(images))


class AsGiven(nn.Module):
    """In place of torchvision's resizing and normalising: the images are as the network takes them already.

    Args:
        has_background: whether the detector's own label 0 is the background and the first class 1, as outside;
            otherwise its first class is 0.
    """

    def __init__(self, has_background: bool) -> None:
        super().__init__()
        self.has_background = has_background
        self.shift = 0 if has_background else 1

    def forward(self, images: Tensor, targets: Any = None) -> tuple[Any, Any]:
        """Return a batch ``(N, 3, H, W)`` as torchvision's ``ImageList``, the targets with the detector's labels."""
        image_list = need("torchvision.models.detection.image_list", extra="detect").ImageList
        if targets is not None:
            targets = [{**target, "labels": target["labels"] - self.shift} for target in targets]
        return image_list(images, [tuple(images.shape[-2:])] * len(images)), targets

    def postprocess(self, result: Any, image_shapes: Any, original_image_sizes: Any) -> Any:
        """Return the boxes as they are, with labels from 1."""
        return [{**one, "labels": one["labels"] + self.shift} for one in result]


def strides(backbone: Pyramid, coarser: int) -> list[int]:
    """Return the strides of a pyramid's maps, with ``coarser`` more than its body has."""
    last = backbone.body.strides[-1]
    return [*backbone.body.strides, *(last << step for step in range(1, coarser + 1))]


def _faster_rcnn(body: Features, shape: DetectorShape) -> nn.Module:
    detection = need("torchvision.models.detection", extra="detect")
    backbone = Pyramid(
        body, shape.channels, need("torchvision.ops.feature_pyramid_network", extra="detect").LastLevelMaxPool()
    )
    levels = strides(backbone, 1)
    large = shape.size >= 640  # as in the references; smaller images have smaller objects, and fewer of them
    times, proposals, sampled = (8, 2000, 512) if large else (4, 500, 128)
    anchors = detection.anchor_utils.AnchorGenerator(
        tuple((times * stride,) for stride in levels), ((0.5, 1.0, 2.0),) * len(levels)
    )
    pool = need("torchvision.ops", extra="detect").MultiScaleRoIAlign([str(i) for i in range(len(body.strides))], 7, 2)
    hidden = 4 * shape.channels
    model: nn.Module = detection.FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        box_roi_pool=pool,
        box_head=detection.faster_rcnn.TwoMLPHead(shape.channels * 7**2, hidden),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(hidden, shape.classes + 1),
        rpn_pre_nms_top_n_train=proposals,
        rpn_post_nms_top_n_train=proposals,
        rpn_pre_nms_top_n_test=proposals // 2,
        rpn_post_nms_top_n_test=proposals // 2,
        box_batch_size_per_image=sampled,
        box_score_thresh=shape.score,
        box_detections_per_img=shape.boxes,
    )
    return model


def _with_coarser_maps(body: Features, shape: DetectorShape) -> tuple[Pyramid, list[int]]:
    block = need("torchvision.ops.feature_pyramid_network", extra="detect").LastLevelP6P7
    backbone = Pyramid(body, shape.channels, block(shape.channels, shape.channels))
    return backbone, strides(backbone, 2)


def _retinanet(body: Features, shape: DetectorShape) -> nn.Module:
    detection = need("torchvision.models.detection", extra="detect")
    backbone, levels = _with_coarser_maps(body, shape)
    octave = [2 ** (third / 3) for third in range(3)]
    sizes = tuple(tuple(int(4 * stride * share) for share in octave) for stride in levels)
    anchors = detection.anchor_utils.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(levels))
    head = detection.retinanet.RetinaNetHead(
        shape.channels,
        anchors.num_anchors_per_location()[0],
        shape.classes,
        norm_layer=partial(nn.GroupNorm, 32),
    )
    head.regression_head._loss_type = "giou"  # as torchvision's second version has it
    model: nn.Module = detection.RetinaNet(
        backbone,
        shape.classes,
        anchor_generator=anchors,
        head=head,
        score_thresh=shape.score,
        detections_per_img=shape.boxes,
    )
    return model


def _fcos(body: Features, shape: DetectorShape) -> nn.Module:
    detection = need("torchvision.models.detection", extra="detect")
    backbone, levels = _with_coarser_maps(body, shape)
    anchors = detection.anchor_utils.AnchorGenerator(tuple((s,) for s in levels), ((1.0,),) * len(levels))
    depth = 4 if shape.channels > 64 else 2
    model: nn.Module = detection.FCOS(
        backbone,
        shape.classes,
        anchor_generator=anchors,
        head=detection.fcos.FCOSHead(shape.channels, 1, shape.classes, depth),
        score_thresh=shape.score,
        detections_per_img=shape.boxes,
    )
    return model


def _ssdlite(body: Features, shape: DetectorShape) -> nn.Module:
    detection = need("torchvision.models.detection", extra="detect")
    backbone, levels = _with_coarser_maps(body, shape)
    boxes = detection.anchor_utils.DefaultBoxGenerator([[2, 3]] * len(levels), min_ratio=0.1, max_ratio=0.95)
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    head = detection.ssdlite.SSDLiteHead(
        [shape.channels] * len(levels), boxes.num_anchors_per_location(), shape.classes + 1, norm
    )
    model: nn.Module = detection.ssd.SSD(
        backbone,
        boxes,
        (shape.size, shape.size),
        shape.classes + 1,
        head=head,
        score_thresh=shape.score,
        detections_per_img=shape.boxes,
    )
    return model


class Kind(NamedTuple):
    """One kind of detector: how it is put together, its finest stride on large images, and whether its label 0 is the
    background.
    """

    make: Callable[[Features, DetectorShape], nn.Module]
    finest: int
    has_background: bool


DETECTORS: dict[str, Kind] = {
    "fasterrcnn": Kind(_faster_rcnn, 4, has_background=True),
    "retinanet": Kind(_retinanet, 8, has_background=False),
    "fcos": Kind(_fcos, 8, has_background=False),
    "ssdlite": Kind(_ssdlite, 8, has_background=True),
}
"""The detectors by name."""


def finest_stride(detector: str, size: int) -> int:
    """Return the smallest stride whose maps a detector looks at, for images whose longest side is ``size``.

    Example:
        >>> finest_stride("fasterrcnn", 800), finest_stride("fcos", 800), finest_stride("fcos", 96)
        (4, 8, 4)
    """
    return 4 if size < SMALL_IMAGE else DETECTORS[detector].finest


def build_detector(detector: str, body: Features, shape: DetectorShape) -> nn.Module:
    """Put one of torchvision's detectors on the maps of a network, with random weights.

    What differs from torchvision's own: the images come as one batch ``(N, 3, H, W)``, normalised and with sides that
    are multiples of 32, and boxes are in its pixels; anchors are for smaller images (4 times the stride; torchvision's
    Faster R-CNN has 8, as here for images of 640 pixels and more); with at most 64 channels FCOS has heads of two
    convolutions in place of four; RetinaNet has normalised heads and the GIoU loss, as torchvision's second version;
    SSDlite's heads are on a feature pyramid.

    Args:
        detector: ``"fasterrcnn"``, ``"retinanet"``, ``"fcos"`` or ``"ssdlite"``.
        body: the maps, see :func:`finest_stride`.
        shape: classes, size and widths.

    Returns:
        A module with ``backbone.body`` and ``backbone.fpn``. In training mode ``model(images, targets)`` returns its
        losses by name, where a target has ``boxes`` ``(k, 4)`` (x1, y1, x2, y2) and ``labels`` ``(k,)`` from 1 to
        ``classes``; in evaluation mode ``model(images)`` returns for each image ``boxes``, ``labels`` and ``scores``,
        the highest first.

    Papers: Faster R-CNN arXiv 1506.01497 with FPN 1612.03144, RetinaNet 1708.02002, FCOS 1904.01355, SSDLite
    1801.04381.

    Raises:
        WhatwhereError: an unknown detector.

    Example:
        >>> import torch, whatwhere as ww
        >>> from whatwhere.networks.features import Features
        >>> body = Features(ww.build(ww.ModelConfig("small-resnet")), size=96, finest=4)
        >>> model = build_detector("fcos", body, DetectorShape(classes=3, size=96, channels=32)).eval()
        >>> sorted(model(torch.randn(2, 3, 96, 64))[0])
        ['boxes', 'labels', 'scores']
    """
    if detector not in DETECTORS:
        raise WhatwhereError(
            f"unknown detector {detector!r}: one of {', '.join(DETECTORS)}{closest(detector, DETECTORS)}"
        )
    kind = DETECTORS[detector]
    model = kind.make(body, shape)
    model.transform = AsGiven(kind.has_background)
    return model
