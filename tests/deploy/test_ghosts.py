"""Ghost convolutions and GhostNet with attention, fused, folded, looked into and exported."""

import copy
import importlib.util

import pytest
import torch
import torchvision
from torch import nn

import whatwhere as ww
from whatwhere.layers.ghost_conv import GhostConv

ONNX = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="needs the extra export",
)


def share(got, want):
    return float((got - want).detach().abs().max() / want.detach().abs().max())


@pytest.fixture
def ghostified(network, moving, images):
    """A network with a convolution that was fitted and one with a new start."""
    model = moving(network()).eval()
    ww.ghostify(model, 3, "blocks.0.conv", data=images, seconds=0)
    ww.ghostify(model, 2, "blocks.1.conv", start="random", example=images[:1], seconds=0)
    assert not torch.equal(model.blocks[0].conv.order, torch.arange(12))
    assert model.blocks[1].conv.order is None
    return model


def test_attention_changes_nothing_at_first_and_is_fused(moving):
    torch.manual_seed(0)
    x = torch.randn(16, 3, 32, 32)
    model = torchvision.models.resnet18(num_classes=5).eval()
    sites = [site.module for site in ww.sites(model, x[:1])]
    ww.ghostify(model, 2, "layer[12].*", data=x, seconds=0)
    assert [site.module for site in ww.sites(model, x[:1])] == sites
    before = model(x)
    assert len(ww.insert(model, "cbam", example=x[:1]).inserted) == 8
    assert torch.equal(model(x), before)
    for attention in ww.attentions(model).values():
        moving(attention)
    assert ww.look(model, torch.rand(3, 32, 32))
    model, x = model.double(), x[:4].double()
    want = model(x)
    with ww.capture(model) as seen:
        model(x)
    assert len(seen) == 8
    assert len(ww.fuse(model).blocks) == 8
    assert share(model(x), want) < 1e-10
    assert ww.unfuse(model) == 8
    assert torch.equal(model(x), want)
    ww.remove(model)
    assert share(model(x), before[:4]) < 1e-3
    assert ww.unghostify(model) == 9


def test_constant_gates_are_folded(ghostified, still, images):
    model = ghostified
    ww.insert(model, "se", example=images[:1])
    still(model).eval()
    want = model(images)
    assert ww.fold(model, images, tolerance=0, seconds=0).folded == ["blocks.0.last", "blocks.1.last"]
    assert share(model(images), want) < 1e-5
    assert sum(isinstance(module, GhostConv) for module in model.modules()) == 2


def test_a_gate_on_a_ghost_convolution_goes_into_the_layer_behind_or_stays(network, still, images):
    model = network()
    model.blocks[0].conv = nn.Sequential(model.blocks[0].conv, ww.SE(12), nn.Conv2d(12, 12, 1))
    model.blocks[1].conv = nn.Sequential(nn.Conv2d(12, 12, 1), ww.SE(12), nn.BatchNorm2d(12))
    model.eval()
    ww.ghostify(model, 2, ["blocks.?.conv.0"], data=images, seconds=0)
    still(model)
    want = model(images)
    assert ww.fold(model, images, tolerance=0, seconds=0).folded == ["blocks.0.conv.1"]
    assert share(model(images), want) < 1e-5
    torch.manual_seed(0)
    model = network()
    model.blocks[0].conv = nn.Sequential(ww.SE(12), model.blocks[0].conv)
    ww.ghostify(model.eval(), 2, "blocks.0.conv.1", data=images, seconds=0)
    still(model)
    want = model(images)
    ww.fold(model, images, tolerance=0, seconds=0)
    assert share(model(images), want) < 1e-5


def test_a_program_of_torch_export(ghostified, images, tmp_path):
    report = ww.export(ghostified, tmp_path / "m.pt2", example=images[:1])
    assert max(check.difference for check in report.checks) < 1e-5


@pytest.mark.slow
@ONNX
def test_onnx_in_every_runtime(ghostified, images, tmp_path):
    """Also in OpenVINO, which mixes up the maps of a plain Gather before a convolution."""
    ww.insert(ghostified, "cbam", example=images[:1])
    report = ww.export(ghostified, tmp_path / "m.onnx", data=images, quantize=images)
    assert max(check.difference for check in report.checks if check.runtime != "int8") < 1e-5
    assert report.quality["int8"].difference < 0.5


@pytest.mark.slow
@ONNX
@pytest.mark.parametrize("ending", ["pt2", "onnx"])
def test_a_ghostified_resnet_is_exported(moving, ending, tmp_path):
    torch.manual_seed(0)
    x = torch.randn(16, 3, 32, 32)
    model = torchvision.models.resnet18(num_classes=5).eval()
    ww.ghostify(model, 2, data=x, seconds=0)
    ww.insert(model, "cbam", example=x[:1])
    for attention in ww.attentions(model).values():
        moving(attention)
    assert ww.export(model, tmp_path / f"m.{ending}", example=x[:1]).checks


@pytest.mark.slow
def test_compiled_as_one_graph(ghostified, images):
    ww.insert(ghostified, "cbam", example=images[:1])
    want = ghostified(images)
    got = torch.compile(ghostified, fullgraph=True)(images)
    assert share(got, want) < 1e-5
    got.sum().backward()
    assert all(p.grad is not None for p in ghostified.blocks[0].conv.parameters())


@pytest.fixture
def ghostnet():
    torch.manual_seed(0)
    return ww.build(ww.ModelConfig("ghostnet", classes=5, width=0.5), size=64).eval()


def test_ghostnet_is_folded_and_captured(ghostnet):
    x = torch.randn(16, 3, 64, 64)
    want = ghostnet(x)
    with ww.capture(ghostnet) as seen:
        ghostnet(x)
    assert len(seen) == 7
    for attention in ww.attentions(ghostnet).values():
        nn.init.zeros_(attention.mlp.fc2.weight)
        nn.init.normal_(attention.mlp.fc2.bias)
    want = ghostnet(x)
    assert len(ww.fold(ghostnet, x, tolerance=0, seconds=0).folded) == 7
    assert share(ghostnet(x), want) < 1e-5


def test_ghostnet_is_fused_where_attention_follows_a_norm(ghostnet):
    """Where it follows the concatenated maps of a ghost module there is no norm to fuse."""
    x = torch.randn(4, 3, 64, 64)
    twin = copy.deepcopy(ghostnet)
    ww.insert(twin, "cbam", example=x[:1])
    with pytest.raises(ww.WhatwhereError, match="nothing to fuse"):
        ww.fuse(twin)
    names = [name for name, module in ghostnet.named_modules() if name.endswith("bn_dw")]
    ww.insert(ghostnet, "se", at=names, example=x[:1])
    want = ghostnet(x)
    assert ww.fuse(ghostnet).norms == names
    assert share(ghostnet(x), want) < 1e-5


@pytest.mark.slow
@ONNX
@pytest.mark.parametrize("ending", ["pt2", "onnx"])
def test_ghostnet_is_exported(ghostnet, ending, tmp_path):
    x = torch.randn(3, 3, 64, 64)
    assert max(c.difference for c in ww.export(ghostnet, tmp_path / f"m.{ending}", example=x).checks) < 1e-5
