"""What a detector sees: Grad-CAM of a box, hits and misses, figures of all shapes, and the model left as it was."""

import matplotlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import whatwhere as ww
from whatwhere.errors import WhatwhereError
from whatwhere.networks.detectors import DETECTORS, DetectorShape, build_detector, finest_stride
from whatwhere.networks.features import Features
from whatwhere.tasks.detection.matching import match
from whatwhere.views import Drawn, box_grad_cam, draw_image, look_at_boxes

CLASSES = ["cat", "a dog with a long name", "bird"]


def detector(name="fcos", attention="cbam", score=0.0):
    torch.manual_seed(0)
    body = Features(ww.build(ww.ModelConfig("small-resnet"), size=64), 64, finest_stride(name, 64))
    model = build_detector(name, body, DetectorShape(3, 64, 32, score=score, boxes=9))
    if attention:
        ww.insert(body, attention, identity=False, example=torch.zeros(1, 3, 64, 96))
    return model


@pytest.fixture
def image():
    return torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", DETECTORS)
def test_grad_cam_of_a_box_is_its_formula(name, image):
    model = detector(name).eval()
    found = box_grad_cam(model, image, 1)
    maps = {}
    for level, module in enumerate(model.backbone.fpn.layer_blocks):
        module.register_forward_hook(lambda _m, _i, out, level=level: maps.__setitem__(level, out))
    for level, module in (model.backbone.fpn.extra_blocks or torch.nn.Module()).named_children():
        module.register_forward_hook(lambda _m, _i, out, level=level: maps.__setitem__(level, out))
    score = model(image.clone().requires_grad_())[0]["scores"][1]
    gradients = torch.autograd.grad(score, list(maps.values()), allow_unused=True)
    pairs = [(a, g) for a, g in zip(maps.values(), gradients, strict=True) if g is not None and a[0, 0].numel() > 1]
    values, gradient = max(pairs, key=lambda pair: float(pair[1].abs().sum()))
    weights = gradient.mean((2, 3), keepdim=True)
    wanted = (weights * values).sum(1, keepdim=True).relu()
    wanted = F.interpolate(wanted, (64, 96), mode="bilinear")[0, 0].detach()
    assert found.shape == (64, 96)
    assert found.max() <= 1
    if wanted.max() > 0:  # the shape of the map; grad-cam resizes and scales a little differently
        correlation = torch.corrcoef(torch.stack([found.flatten(), wanted.flatten()]))[0, 1]
        assert correlation > 0.95


def test_the_model_is_left_as_it_was(image, pixels, tmp_path):
    model = detector().train()
    model.backbone.body.eval()
    next(model.parameters()).requires_grad_(False)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    learns = [p.requires_grad for p in model.parameters()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    look_at_boxes(model, image, pixels, CLASSES)
    with pytest.raises(WhatwhereError, match="there is no box 99: the detector finds 9"):
        box_grad_cam(model, image, 99)
    assert modes == [module.training for module in model.modules()]
    assert learns == [p.requires_grad for p in model.parameters()]
    assert hooks == [len(module._forward_hooks) for module in model.modules()]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert matplotlib.pyplot.get_fignums() == [] if hasattr(matplotlib, "pyplot") else True


def test_boxes_stay_inside_the_image_and_gates_are_named_shortly(image, pixels):
    seen = look_at_boxes(detector(), image, pixels, CLASSES, score=0.0, title="a title")
    assert (seen.boxes <= torch.tensor([90, 60, 90, 60])).all()
    assert len(seen.drawn) == len(seen.labels) == 9
    assert [view.module for view in seen.views] == [f"stages.{i}.0.bn2" for i in range(3)]
    assert seen.grad_cam.shape == (64, 96)
    assert seen.caption.endswith("and 5 more")


def test_a_target_by_number_and_by_name(image, pixels):
    model = detector()
    seen = look_at_boxes(model, image, pixels, CLASSES, score=0.0, target="2")
    assert seen.target == 2
    seen = look_at_boxes(model, image, pixels, CLASSES, score=0.0, target=seen.labels[0])
    assert seen.target == 0
    for target, says in ((9, "0 to 8 here"), ("cta", "neither the number of a box"), ("-1", "nor a class")):
        with pytest.raises(WhatwhereError, match=says):
            look_at_boxes(model, image, pixels, CLASSES, score=0.0, target=target)


def truth(boxes, labels, ignored=None):
    labels = torch.tensor(labels, dtype=torch.int64)
    ignored = torch.zeros(len(labels), dtype=torch.bool) if ignored is None else torch.tensor(ignored)
    return {"boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), "labels": labels, "ignored": ignored}


def test_hits_misses_and_false_alarms(image, pixels):
    model = detector()
    free = look_at_boxes(model, image, pixels, CLASSES, score=0.0)
    labels = [CLASSES.index(name) for name in free.labels]
    known = truth([free.boxes[0].tolist(), [0, 0, 5, 5]], [labels[0], 2])
    seen = look_at_boxes(model, image, pixels, CLASSES, score=0.0, truth=known, match=match)
    assert seen.counts == {"hit": 1, "miss": 1, "false alarm": 8}
    assert seen.caption == "1 hit, 1 miss, 8 false alarms"
    assert [one.kind for one in seen.drawn] == ["miss"] + ["false alarm"] * 8 + ["hit"]


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
@pytest.mark.parametrize("attention", [None, "cbam"])
def test_figures_are_written(suffix, attention, image, pixels, tmp_path):
    known = truth([[5, 5, 40, 50]], [0])
    seen = look_at_boxes(detector("ssdlite", attention), image, pixels, CLASSES, truth=known, match=match, title="t")
    assert seen.save(tmp_path / f"look.{suffix}").stat().st_size > 5000


def test_nothing_found(image, pixels, tmp_path):
    seen = look_at_boxes(detector(score=0.999), image, pixels, CLASSES)
    assert (seen.caption, seen.target, seen.grad_cam) == ("nothing", None, None)
    seen.save(tmp_path / "nothing.png")
    seen = look_at_boxes(detector(), image, pixels, CLASSES, score=1.0)
    assert seen.caption == "nothing"
    assert seen.grad_cam is not None


@pytest.mark.parametrize("shape", [(40, 300), (300, 40), (96, 96)])
@pytest.mark.parametrize("count", [0, 1, 12, 100])
def test_boxes_on_images_of_all_shapes(shape, count):
    rng = np.random.default_rng(count)
    corners = rng.uniform(0, 30, (count, 2))
    boxes = [
        Drawn([x, y, x + 9, y + 9], "a long name 0.99", kind)
        for (x, y), kind in zip(corners.tolist(), ["hit", "miss", "false alarm", "found"] * 25, strict=False)
    ]
    figure = draw_image(np.zeros((*shape, 3), np.uint8), boxes, {"found": count})
    axes = figure.axes[0]
    assert len(axes.patches) == count
    texts = [(text.xy, text.get_ha()) for text in axes.texts if text.get_text()]
    assert len(texts) <= count
    assert bool(texts) == (0 < count <= 60)


def test_a_model_without_a_feature_pyramid(image):
    with pytest.raises(WhatwhereError, match="has no feature pyramid"):
        box_grad_cam(torch.nn.Conv2d(3, 8, 3), image)
