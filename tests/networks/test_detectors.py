"""Detectors on the maps of any network: their maps, frozen parts, losses, boxes."""

import pytest
import timm
import torch
from torch import nn

import whatwhere as ww
from whatwhere.networks.detectors import DETECTORS, DetectorShape, build_detector, finest_stride
from whatwhere.networks.features import Features, stage_maps
from whatwhere.networks.freezing import freeze_norms, freeze_stages


def build(name, **options):
    torch.manual_seed(0)
    return ww.build(ww.ModelConfig(name, **options), size=64).eval()


def targets(*counts):
    box = torch.tensor([[4.0, 6.0, 30.0, 40.0], [20.0, 10.0, 60.0, 50.0]])
    return [{"boxes": box[:count], "labels": torch.arange(1, count + 1)} for count in counts]


@pytest.mark.parametrize("name", ["small-resnet", "small-vgg", "small-mobilenet", "resnet-20", "ghostnet", "resnet10t"])
def test_features_are_the_maps_of_the_whole_network(name):
    network = build(name)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        whole = network.forward_intermediates(images, intermediates_only=True)
        features = Features(network, 64)
        maps = list(features(images).values())
    assert features.strides == sorted(features.strides)
    for index, one, channels, stride in zip(features.indices, maps, features.channels, features.strides, strict=True):
        torch.testing.assert_close(one, whole[index], rtol=0, atol=0)
        assert tuple(one.shape[1:]) == (channels, 64 // stride, 96 // stride)


@pytest.mark.parametrize("name", ["small-resnet", "ghostnet"])
def test_the_last_map_of_our_own_networks_is_what_their_classifier_sees(name):
    network = build(name).double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    last = network.forward_intermediates(images)[-1]
    if name == "ghostnet":
        scores = network.classifier(network.act2(network.conv_head(last.mean((2, 3), keepdim=True))).flatten(1))
    else:
        scores = network.head(last.mean((2, 3)))
    torch.testing.assert_close(network(images), scores)


def test_features_keep_no_parameter_that_learns_nothing():
    features = Features(build("small-resnet"), 64, finest=2)
    sum(one.sum() for one in features(torch.randn(2, 3, 64, 64)).values()).backward()
    assert [name for name, parameter in features.named_parameters() if parameter.grad is None] == []


def test_features_of_networks_that_do_not_have_them():
    with pytest.raises(ww.WhatwhereError, match="does not give the maps of its stages"):
        Features(nn.Sequential(nn.Conv2d(3, 8, 3)), 64)
    with pytest.raises(ww.WhatwhereError, match=r"no map with a stride of at least 16: .* strides 2, 4, 8"):
        Features(build("small-resnet"), 64, finest=16)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "convnext_atto",
        "densenet121",
        "efficientnet_b0",
        "ese_vovnet19b_dw",
        "mobilenetv3_small_050",
        "regnety_002",
        "repvgg_a0",
        "res2net50_26w_4s",
        "tf_efficientnet_lite0",
        "vgg11_bn",
        "vit_tiny_patch16_224",
        "hrnet_w18_small",
    ],
)
def test_features_of_timm_networks(name):
    size = 224 if name.startswith("vit") else 64
    features = Features(timm.create_model(name).eval(), size)
    with torch.no_grad():
        maps = list(features(torch.randn(1, 3, size, size)).values())
    assert [round(size / one.shape[-1]) for one in maps] == features.strides


def test_frozen_stages_are_those_before_a_map():
    network = build("resnet10t")
    freeze_stages(network, 2, 64)
    learns = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.requires_grad}
    frozen = {name.split(".")[0] for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1"}
    assert learns == {"layer2", "layer3", "layer4", "fc"}
    assert all(parameter.grad is None for parameter in network.parameters())
    with pytest.raises(ww.WhatwhereError, match="has 5 stages: 9 cannot be frozen"):
        freeze_stages(network, 9, 64)


def test_frozen_norms_change_no_output_and_do_not_move():
    network = build("small-resnet")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        network.train()(3 * images)  # other statistics than the first ones
        before = network.eval()(images)
        frozen = freeze_norms(network)
        torch.testing.assert_close(frozen(images), before)
        state = {key: value.clone() for key, value in frozen.state_dict().items()}
        frozen.train()(5 * images)
    assert all(torch.equal(state[key], value) for key, value in frozen.state_dict().items())


@pytest.mark.parametrize("detector", DETECTORS)
def test_detectors_learn_also_from_images_without_objects(detector):
    body = Features(build("small-resnet"), 64, finest_stride(detector, 64))
    model = build_detector(detector, body, DetectorShape(3, 64, 32)).train()
    for counts in ((2, 0), (0, 0)):
        losses = model(torch.randn(2, 3, 64, 96), targets(*counts))
        total = sum(losses.values())
        assert torch.isfinite(total)
        total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


@pytest.mark.parametrize("detector", DETECTORS)
def test_boxes_of_a_detector_are_in_the_batch_and_sorted(detector):
    body = Features(build("small-resnet"), 64, finest_stride(detector, 64))
    model = build_detector(detector, body, DetectorShape(3, 64, 32, score=0.0, boxes=7)).eval()
    with torch.no_grad():
        found = model(torch.randn(2, 3, 64, 96))
    assert len(found) == 2
    for one in found:
        assert 1 <= len(one["boxes"]) <= 7
        assert one["boxes"].min() >= 0
        assert (one["boxes"] <= torch.tensor([96, 64, 96, 64])).all()
        assert torch.equal(one["scores"], one["scores"].sort(descending=True)[0])
        assert set(one["labels"].tolist()) <= {1, 2, 3}


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_detector_can_learn_one_image_by_heart(detector):
    torch.manual_seed(0)
    image = torch.zeros(1, 3, 64, 64)
    image[:, 0, 10:34, 8:40] = 2
    image[:, 1, 40:60, 30:54] = 2
    wanted = torch.tensor([[8.0, 10.0, 40.0, 34.0], [30.0, 40.0, 54.0, 60.0]])
    truth = [{"boxes": wanted, "labels": torch.tensor([1, 2])}]
    body = Features(build("small-resnet"), 64, finest_stride(detector, 64))
    model = build_detector(detector, body, DetectorShape(2, 64, 32)).train()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model(image, truth).values()).backward()
        optimizer.step()
    with torch.no_grad():
        model.train()(image, truth)
        (found,) = model.eval()(image)
    for box, label in zip(wanted, (1, 2), strict=True):
        mine = found["labels"] == label
        assert mine.any()
        assert (found["boxes"][mine][0] - box).abs().max() < 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, "classes=0"),
        ({"channels": 48}, "channels=48: must be a multiple of 32"),
        ({"size": 8}, "size=8"),
        ({"score": 1.0}, "score=1.0"),
        ({"boxes": 0}, "boxes=0"),
    ],
)
def test_wrong_shapes(options, message):
    with pytest.raises(ww.WhatwhereError, match=message):
        DetectorShape(**{"classes": 3, "size": 64, **options})


def test_unknown_detector():
    with pytest.raises(ww.WhatwhereError, match=r"unknown detector 'retina': one of .*; did you mean 'retinanet'"):
        build_detector("retina", Features(build("small-resnet"), 64), DetectorShape(3, 64))


def test_stage_maps_leave_the_network_as_it_was():
    network = build("small-resnet").train()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    stage_maps(network, 64)
    assert network.training
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
