"""The look at a detector's boxes: what it says where little is found, its errors, and figures of every shape."""

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.errors import WhatwhereError
from whatwhere.networks.detectors import DETECTORS, DetectorShape, build_detector, finest_stride
from whatwhere.networks.features import Features
from whatwhere.tasks.detection.matching import match
from whatwhere.views import box_grad_cam, look_at_boxes

pytest.importorskip("matplotlib")
pytest.importorskip("pytorch_grad_cam")

CLASSES = ["cat", "a dog with a long name", "bird"]


def detector(name="ssdlite", attention="cbam", score=0.0):
    torch.manual_seed(0)
    body = Features(ww.build(ww.ModelConfig("small-resnet"), size=64), 64, finest_stride(name, 64))
    if attention:
        ww.insert(body, attention, identity=False, example=torch.zeros(1, 3, 64, 96))
    model = build_detector(name, body, DetectorShape(3, 64, 32, score=score, boxes=9))
    if name == "fcos":
        model.head.regression_head.bbox_reg.bias.data += 2  # at random it finds boxes without an area
    return model


def inputs(height=60, width=90):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = torch.zeros(1, 3, -(-height // 32) * 32, -(-width // 32) * 32)
    image[0, :, :height, :width] = torch.from_numpy(pixels).permute(2, 0, 1) / 64 - 2
    return image, pixels


def truth(boxes, labels, **more):
    return {"boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), "labels": torch.tensor(labels), **more}


def texts(found):
    return [text.get_text().replace("\n", " ") for axes in found.figure.axes for text in axes.texts]


def captions(found):
    return [axes.get_xlabel() for axes in found.figure.axes]


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector(name):
    model = detector(name)
    found = look_at_boxes(model, *inputs(64, 96), CLASSES, score=0.0)
    assert found.target == 0
    assert torch.equal(found.grad_cam, box_grad_cam(model, inputs(64, 96)[0], 0))
    assert (found.scores.diff() <= 0).all()
    assert list(found.counts) == ["found"]


def test_grad_cam_is_of_the_box_that_is_meant():
    model = detector("fcos")
    first = look_at_boxes(model, *inputs(64, 96), CLASSES, score=0.0)
    name = next(name for name in first.labels if name != first.labels[0])
    found = look_at_boxes(model, *inputs(64, 96), CLASSES, score=0.0, target=name)
    assert found.target == first.labels.index(name)
    assert torch.equal(found.grad_cam, box_grad_cam(model, inputs(64, 96)[0], found.target))
    aimed = found.figure.axes[-2].patches[0]
    assert aimed.get_xy() == tuple(found.boxes[found.target, :2].tolist())


def test_boxes_stay_inside_the_image_and_gates_are_named_shortly():
    found = look_at_boxes(detector(), *inputs(), CLASSES, score=0.0)
    assert len(found.boxes) > 0
    assert (found.boxes <= torch.tensor([90, 60, 90, 60])).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert [view.module for view in found.views] == [f"stages.{i}.0.bn2" for i in range(3)]


def test_the_chosen_box_is_drawn_as_what_it_is():
    known = truth([[0, 0, 3, 3]], [0])
    found = look_at_boxes(detector(), *inputs(), CLASSES, score=0.0, truth=known, match=match)
    assert found.counts["hit"] == 0
    assert found.figure.axes[-2].patches[0].get_linestyle() == "--"


def test_misses_only():
    known = truth([[5, 5, 40, 50], [50, 5, 80, 30]], [0, 1], ignored=None)
    found = look_at_boxes(detector(), *inputs(), CLASSES, score=0.99, truth=known, match=match)
    assert found.caption == "0 hits, 2 misses, 0 false alarms"
    assert [one.kind for one in found.drawn] == ["miss", "miss"]
    assert "no object with a score of at least 0.99" in texts(found)
    assert any("below 0.99" in caption for caption in captions(found))


def test_ignored_objects_are_neither_hit_nor_missed():
    free = look_at_boxes(detector(), *inputs(), CLASSES, score=0.0)
    labels = [CLASSES.index(name) for name in free.labels]
    known = truth(free.boxes.tolist(), labels, ignored=torch.ones(len(labels), dtype=torch.bool))
    found = look_at_boxes(detector(), *inputs(), CLASSES, score=0.0, truth=known, match=match)
    assert found.counts == {"hit": 0, "miss": 0, "false alarm": 0}
    assert found.drawn == []


def test_no_box_at_all():
    found = look_at_boxes(detector(score=0.999), *inputs(), CLASSES)
    assert (found.caption, found.target, found.grad_cam) == ("nothing", None, None)
    assert "no object with a score of at least 0.3" in texts(found)
    assert "no box, so no Grad-CAM" in captions(found)
    with pytest.raises(WhatwhereError, match="target 'cat': the detector finds no box in this image"):
        look_at_boxes(detector(score=0.999), *inputs(), CLASSES, target="cat")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"classes": []}, "found label 1, but classes has only 0"),
        ({"truth": truth([[0, 0, 3, 3]], [0])}, "needs match"),
        ({"image": torch.zeros(2, 3, 64, 96)}, r"one image \(1, 3, H, W\)"),
        ({"target": 9}, r"0 to 8 here \(9 with a score of at least 0\)"),
        ({"target": "brd"}, "nor a class that was found"),
    ],
    ids=["names", "match", "batch", "number", "class"],
)
def test_mistakes_are_explained(change, says):
    image, pixels = inputs()
    arguments = {"image": image, "pixels": pixels, "classes": CLASSES, "score": 0.0, **change}
    with pytest.raises(WhatwhereError, match=says):
        look_at_boxes(detector(), **arguments)


@pytest.mark.parametrize("shape", [(96, 96), (40, 300), (300, 40)], ids=str)
@pytest.mark.parametrize("attention", [None, "cbam"])
def test_panels_keep_the_shape_of_the_image_and_hold_their_texts(shape, attention):
    found = look_at_boxes(detector(attention=attention), *inputs(*shape), CLASSES, score=0.0, title="a title")
    figure = found.figure
    figure.draw_without_rendering()
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == (5 if attention else 2)
    for axes in shown:
        assert axes.bbox.height / axes.bbox.width == pytest.approx(shape[0] / shape[1], rel=0.02)
    listed = figure.axes[-1]
    areas = [text.get_window_extent() for text in listed.texts]
    assert not any(one.overlaps(two) for i, one in enumerate(areas) for two in areas[:i])
    assert all(area.x0 >= 0 and area.x1 <= figure.bbox.x1 for area in areas)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_figure_is_the_same_file_each_time(suffix, tmp_path):
    found = look_at_boxes(detector(), *inputs(), CLASSES, score=0.0, title="a title")
    first, second = (found.save(tmp_path / name / f"look.{suffix}", dpi=60).read_bytes() for name in "ab")
    assert first == second
    assert len(first) > 5000
    with pytest.raises(WhatwhereError, match=r"\.png"):
        found.save(tmp_path / "look.jpg")
