"""Networks with ghost convolutions into a file, and out of it."""

import pytest
import torch
import torchvision
from torch import nn

import whatwhere as ww
from whatwhere.checkpoints.container import read_tensors
from whatwhere.layers.ghost_conv import GhostConv

from .test_saving import equal, rewrite, setter, there_and_back

X = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def ghostified(name="small-resnet", ratio=2, at="*", start="fit", **options):
    torch.manual_seed(0)
    model = ww.build(ww.ModelConfig(name, classes=4, **options))
    ww.ghostify(model, ratio, at, start=start, example=X, seconds=0)
    return model


@pytest.mark.parametrize("name", ["small-resnet", "small-resnet-32", "small-vgg", "small-mobilenet"])
@pytest.mark.parametrize("width", [None, (9, 24, 40)])
@pytest.mark.parametrize("start", ["fit", "random"])
def test_small_networks(name, width, start, tmp_path):
    model = ghostified(name, 3, start=start, width=width)
    order = {key: value.clone() for key, value in model.state_dict().items() if key.endswith(".order")}
    assert bool(order) == (start == "fit")
    path = ww.save(model, tmp_path / "m.safetensors")
    assert equal(ww.load_model(path), model)
    ww.insert(model, "cbam", example=X)
    again = ww.load_model(ww.save(model.eval(), path))
    assert equal(again, model)
    assert torch.equal(again(X), model(X))
    assert all(torch.equal(again.state_dict()[key], value) for key, value in order.items())
    ww.remove(again)
    with pytest.raises(ww.WhatwhereError, match="loaded from a file"):
        ww.unghostify(again)


@pytest.mark.parametrize("attention", [None, "cbam"])
def test_torchvision(attention, tmp_path):
    model = torchvision.models.resnet18(num_classes=7)
    ww.ghostify(model, 2, "layer[34].*", start="random", cheap_kernel_size=5, example=X, seconds=0)
    if attention:
        ww.insert(model, attention, example=X)
    back = there_and_back(model.bfloat16(), tmp_path)
    assert back.layer3[0].conv1.conv2.kernel_size == (5, 5)
    asked = {"base": "torchvision:resnet18", "options": {"num_classes": 7}}
    assert equal(ww.load_model(ww.save(model, tmp_path / "n.safetensors", **asked)), model)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet10t"])
def test_timm(name, tmp_path):
    timm = pytest.importorskip("timm")
    model = timm.create_model(name, num_classes=5)
    ww.ghostify(model, 2, example=X, seconds=0)
    there_and_back(model, tmp_path)
    ww.insert(model, "se", example=X)
    there_and_back(model, tmp_path)


def test_ghostnet(tmp_path):
    there_and_back(ghostified("ghostnet", width=0.5), tmp_path)


def test_attention_on_a_ghost_convolution(tmp_path):
    model = torchvision.models.squeezenet1_1(num_classes=3)
    ww.ghostify(model, 2, "features.[34].expand*", start="random", example=X, seconds=0)
    ww.insert(model, "se", at="features.3.expand3x3", example=X)
    back = ww.load_model(ww.save(model, tmp_path / "m.safetensors"))
    assert list(ww.attentions(back)) == ["features.3.expand3x3"]
    assert torch.equal(back.eval()(X), model.eval()(X))


def test_ghosts_that_were_changed_afterwards_are_not_saved(tmp_path):
    model = ghostified()
    model.stages[0][0].conv1.conv2 = nn.Conv2d(8, 8, 3, padding=1)
    with pytest.raises(ww.WhatwhereError, match="conv2"):
        ww.save(model, tmp_path / "m.safetensors")


def test_a_file_of_an_older_version_says_nothing_of_ghosts(tmp_path):
    model = ww.build(ww.ModelConfig("small-resnet", attention="cbam"))
    path = ww.save(model, tmp_path / "m.safetensors")
    assert read_tensors(path)[1]["spec"]["version"] == 1
    rewrite(path, lambda spec: spec.pop("ghosts"))
    assert equal(ww.load_model(path), model)


def drop(key):
    return lambda spec: spec["ghosts"][0].pop(key)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (setter("ghosts", 3), "ghosts is int"),
        (setter("ghosts", None), "ghosts is NoneType"),
        (setter("ghosts", [3]), "int where an object is expected"),
        (setter("ghosts", []), "does not hold together"),
        (setter("ghosts", 0, "module", "no.where"), "has no convolution 'no.where'"),
        (setter("ghosts", 0, "module", "head"), "has no convolution 'head'"),
        (setter("ghosts", 0, "module", ""), "has no convolution ''"),
        (setter("ghosts", 0, "module", "stages.0.0.conv1.conv1"), "has no convolution"),
        (setter("ghosts", 0, "module", "stages.0.0.conv2"), "has no convolution"),  # twice
        (setter("ghosts", 0, "module", 3), "module is int"),
        (setter("ghosts", 0, "ratio", 1), "at least 2"),
        (setter("ghosts", 0, "ratio", 4), "does not hold together"),
        (setter("ghosts", 0, "ratio", 17), "more than the 16 output maps"),
        (setter("ghosts", 0, "ratio", 10**30), "more than the 16 output maps"),
        (setter("ghosts", 0, "ratio", True), "ratio is bool"),
        (setter("ghosts", 0, "ratio", 2.0), "ratio is float"),
        (setter("ghosts", 0, "cheap_kernel_size", 2), "must be odd"),
        (setter("ghosts", 0, "cheap_kernel_size", -1), "at least 1"),
        (setter("ghosts", 0, "cheap_kernel_size", 5), "does not hold together"),
        (setter("ghosts", 0, "cheap_kernel_size", 10**6 + 1), "does not hold together"),
        (setter("ghosts", 0, "cheap_kernel_size", 10**12 + 1), "no ghost convolution of cheap_kernel_size"),
        (setter("ghosts", 0, "cheap_kernel_size", 10**30 + 1), "no ghost convolution of cheap_kernel_size"),
        (setter("ghosts", 0, "ordered", 1), "ordered is int"),
        (setter("ghosts", 0, "ordered", False), "does not hold together"),
        (drop("ratio"), "ratio is missing"),
        (drop("ordered"), "ordered is missing"),
    ],
)
def test_specs_that_are_wrong(change, reason, tmp_path):
    path = ww.save(ghostified(), tmp_path / "m.safetensors")
    rewrite(path, change)
    with pytest.raises(ww.WhatwhereError, match=reason):
        ww.load_model(path)


def test_depthwise_convolutions_and_convolutions_of_other_classes_take_no_ghost(tmp_path):
    path = ww.save(ghostified("small-mobilenet"), tmp_path / "m.safetensors")
    rewrite(path, setter("ghosts", 0, "module", "stages.0.0.depthwise.0"))
    with pytest.raises(ww.WhatwhereError, match="in 64 groups"):
        ww.load_model(path)


def test_orders_that_are_no_orders(tmp_path):
    model = ghostified()
    ghost = model.stages[0][0].conv1
    assert isinstance(ghost, GhostConv)
    assert ghost.order is not None
    ghost.order[3] = 10**6
    path = ww.save(model, tmp_path / "m.safetensors")
    with pytest.raises(ww.WhatwhereError, match="order"):
        ww.load_model(path)
