"""Exported detectors: the file gives all boxes, and the choice among them is what the detector finds."""

import numpy as np
import onnxruntime
import pytest
import torch

import whatwhere as ww
from whatwhere.networks.dense import select
from whatwhere.networks.detectors import DetectorShape, build_detector, finest_stride
from whatwhere.networks.features import Features


def detector(name, attention="cbam"):
    torch.manual_seed(0)
    body = Features(ww.build(ww.ModelConfig("small-resnet"), size=64), 64, finest_stride(name, 64))
    model = build_detector(name, body, DetectorShape(3, 64, 32, score=0.2)).eval()
    ww.insert(body, attention, example=torch.zeros(1, 3, 64, 64), identity=False)
    return model


@pytest.mark.parametrize("name", ["fcos", pytest.param("retinanet", marks=pytest.mark.slow), "ssdlite"])
def test_an_exported_detector_finds_what_the_detector_finds(name, tmp_path):
    model = detector(name)
    for parameter in model.head.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    images = torch.randn(2, 3, 64, 64)
    report = ww.export(model, tmp_path / "model.onnx", example=images)
    assert any("non-maximum suppression" in note for note in report.notes)
    assert all(check.difference < 1e-4 for check in report.checks)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    boxes, scores = session.run(None, {"images": images.numpy()})
    model.topk_candidates = 10**6
    with torch.no_grad():
        wanted = model(images)
    for number, one in enumerate(wanted):
        found = select(
            torch.from_numpy(boxes[number]), torch.from_numpy(scores[number]), score=0.2, overlap=model.nms_thresh
        )
        assert len(one["boxes"]) > 3
        np.testing.assert_allclose(found["scores"], one["scores"], rtol=1e-3, atol=1e-4)


def test_faster_rcnn_says_why_it_cannot_be_exported(tmp_path):
    with pytest.raises(ww.WhatwhereError, match="FasterRCNN cannot be exported: its second stage"):
        ww.export(detector("fasterrcnn"), tmp_path / "model.onnx", example=torch.zeros(1, 3, 64, 64))
    assert list(tmp_path.iterdir()) == []
