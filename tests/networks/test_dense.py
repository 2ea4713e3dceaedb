"""The dense form of a detector, and the choice among its boxes: together they are torchvision's own result."""

import pytest
import torch
import torchvision

import whatwhere as ww
from whatwhere.networks.dense import DenseDetector, is_detector, select
from whatwhere.networks.detectors import DetectorShape, build_detector, finest_stride
from whatwhere.networks.features import Features


def detector(name, score=0.2):
    torch.manual_seed(0)
    body = Features(ww.build(ww.ModelConfig("small-resnet"), size=64), 64, finest_stride(name, 64))
    model = build_detector(name, body, DetectorShape(3, 64, 32, score=score)).eval()
    for parameter in model.head.parameters():  # scores that spread
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("name", ["fcos", "retinanet", "ssdlite"])
def test_dense_boxes_and_their_choice_are_the_detector(name):
    model = detector(name)
    model.topk_candidates = 10**6  # torchvision looks at the best thousand of a level only
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        wanted = model(images)
        boxes, scores = DenseDetector(model)(images)
    overlap = model.nms_thresh
    assert sum(len(one["boxes"]) for one in wanted) > 10
    for own, box, value in zip(wanted, boxes, scores, strict=True):
        found = select(box, value, score=0.2, overlap=overlap)
        torch.testing.assert_close(found["scores"], own["scores"])
        assert torch.equal(found["labels"], own["labels"])
        torch.testing.assert_close(found["boxes"], own["boxes"], rtol=1e-4, atol=1e-3)


def test_faster_rcnn_has_no_dense_form():
    body = Features(ww.build(ww.ModelConfig("small-resnet"), size=64), 64, 4)
    model = build_detector("fasterrcnn", body, DetectorShape(3, 64, 32))
    assert is_detector(model)
    with pytest.raises(ww.WhatwhereError, match=r"FasterRCNN cannot be exported: .* fcos, retinanet, ssdlite"):
        DenseDetector(model)


def test_torchvisions_own_detectors_normalise_their_images_and_are_left_alone():
    model = torchvision.models.detection.fcos_resnet50_fpn(weights=None, weights_backbone=None)
    assert not is_detector(model)
    assert is_detector(detector("fcos"))


def test_nothing_above_the_score():
    found = select(torch.rand(5, 4), torch.zeros(5, 2))
    assert {key: tuple(value.shape) for key, value in found.items()} == {
        "boxes": (0, 4),
        "labels": (0,),
        "scores": (0,),
    }
