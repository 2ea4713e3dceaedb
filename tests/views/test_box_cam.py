"""Grad-CAM of a box: its formula on the level that the score depends on, its errors, and the model left as it was."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torchvision.models.detection import FCOS
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import whatwhere as ww
from whatwhere.errors import WhatwhereError
from whatwhere.networks.detectors import DETECTORS, DetectorShape, build_detector, finest_stride
from whatwhere.networks.features import Features
from whatwhere.views import box_grad_cam

pytest.importorskip("pytorch_grad_cam")


def detector(name):
    torch.manual_seed(0)
    body = Features(ww.build(ww.ModelConfig("small-resnet"), size=64), 64, finest_stride(name, 64))
    ww.insert(body, "cbam", identity=False, example=torch.zeros(1, 3, 64, 96))
    return build_detector(name, body, DetectorShape(3, 64, 32, score=0.0, boxes=6)).eval()


@pytest.fixture
def image():
    return torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def formula(model, image, box):
    """Grad-CAM on every level, without what the package does: the map before it is resized, and how strong it is."""
    kept = []
    blocks = list(model.backbone.fpn.layer_blocks)
    blocks += [] if model.backbone.fpn.extra_blocks is None else list(model.backbone.fpn.extra_blocks.children())
    hooks = [block.register_forward_hook(lambda _m, _i, out: kept.append(out)) for block in blocks]
    score = model(image.clone().requires_grad_())[0]["scores"][box]
    for hook in hooks:
        hook.remove()
    found = []
    for value, slope in zip(kept, torch.autograd.grad(score, kept, allow_unused=True), strict=True):
        if slope is not None and value[0, 0].numel() > 1:
            cam = (slope.mean((2, 3), keepdim=True) * value).sum(1, keepdim=True).relu()
            found.append((float(slope.abs().sum()), cam.detach()))
    return max(found, key=lambda pair: pair[0])[1]


@pytest.mark.parametrize("name", DETECTORS)
def test_it_is_the_formula_on_the_level_with_the_largest_gradient(name, image):
    model = detector(name)
    compared = 0
    for box in range(3):
        found, cam = box_grad_cam(model, image, box), formula(model, image, box)
        assert (found.shape, found.dtype) == ((64, 96), torch.float32)
        assert float(found.min()) >= 0
        if cam.max() <= 0:
            assert found.max() == 0
            continue
        cam = (cam - cam.min()) / (cam.max() - cam.min())
        wanted = F.interpolate(cam, (64, 96), mode="bilinear", align_corners=False)[0, 0]
        wanted = (wanted - wanted.min()) / (wanted.max() - wanted.min())
        assert (found - wanted).abs().max() < 1e-3
        compared += 1
    assert compared


def test_torchvisions_own_detector_with_attention_inside():
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256)
    )
    model = FCOS(backbone, 5, min_size=96, max_size=128, score_thresh=0.0)
    ww.insert(model.backbone, "cbam", example=torch.zeros(1, 3, 96, 128))
    assert box_grad_cam(model, torch.randn(1, 3, 96, 128)).shape == (96, 128)
    assert isinstance(model.transform, torchvision.models.detection.transform.GeneralizedRCNNTransform)


def test_a_compiled_model_and_one_in_inference_mode(image):
    model = detector("fcos")
    plain = box_grad_cam(model, image)
    assert torch.equal(box_grad_cam(torch.compile(model), image), plain)
    with torch.inference_mode():
        assert torch.equal(box_grad_cam(model, image.clone()), plain)


@pytest.mark.parametrize("box", [0, 99], ids=["found", "error"])
def test_the_model_is_left_as_it_was(box, image):
    model = detector("fasterrcnn").train()
    model.backbone.body.eval()
    frozen, learned = list(model.parameters())[:2]
    frozen.requires_grad_(False)
    learned.grad = gradient = torch.ones_like(learned)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    learns = [p.requires_grad for p in model.parameters()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    random = torch.random.get_rng_state()
    if box == 99:
        with pytest.raises(WhatwhereError, match="no box 99"):
            box_grad_cam(model, image, box)
    else:
        box_grad_cam(model, image, box)
    assert modes == [module.training for module in model.modules()]
    assert learns == [p.requires_grad for p in model.parameters()]
    assert hooks == [
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()
    ]
    assert learned.grad is gradient
    assert all(p.grad is None for p in model.parameters() if p is not learned)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert torch.equal(random, torch.random.get_rng_state())
    assert image.grad is None


@pytest.mark.parametrize("box", [-1, 6])
def test_a_box_that_is_not_there(box, image):
    with pytest.raises(WhatwhereError, match=f"there is no box {box}: the detector finds 6"):
        box_grad_cam(detector("fcos"), image, box)


def test_more_than_one_image_and_no_pyramid(image):
    with pytest.raises(WhatwhereError, match=r"one image \(1, 3, H, W\) is needed, got \(2, 3, 64, 96\)"):
        box_grad_cam(detector("fcos"), image.repeat(2, 1, 1, 1))
    with pytest.raises(WhatwhereError, match="Conv2d has no feature pyramid"):
        box_grad_cam(torch.nn.Conv2d(3, 8, 3), image)
