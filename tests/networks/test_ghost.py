"""GhostNet: equal to the formulas and to timm's (official layout and names), counts of the paper's code, mistakes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whatwhere as ww
from whatwhere.cost import count_multiply_adds, count_parameters
from whatwhere.networks import build_plain, widen
from whatwhere.networks.ghost import GhostBottleneck, GhostNet, round_width

# Counted from the official code, at 224 × 224.
COUNTS = {0.5: (2_587_292, 42_328_152), 1.0: (5_182_508, 141_150_512), 1.3: (7_358_820, 227_003_256)}


@pytest.mark.parametrize("width", COUNTS)
def test_counts_of_the_official_code(width):
    network = GhostNet(width=width)
    assert count_parameters(network) == COUNTS[width][0]
    assert count_multiply_adds(network, (3, 224, 224)) == COUNTS[width][1]


def disturb(network):
    """Move parameters and running statistics away from where they start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        for m in network.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.copy_(0.1 * torch.randn(m.running_mean.shape, generator=generator))
                m.running_var.copy_(0.5 + torch.rand(m.running_var.shape, generator=generator))
    return network


def run(network, training):
    """The output and every gradient of a pass in float64, and the running statistics after it."""
    network = copy.deepcopy(network).train(training)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, 64, 96, generator=generator, dtype=torch.float64).requires_grad_()
    y = network(x)
    (y * torch.randn(y.shape, generator=generator, dtype=torch.float64)).sum().backward()
    renamed = {".se.conv_reduce.": ".se.mlp.fc1.", ".se.conv_expand.": ".se.mlp.fc2."}

    def key(name):
        for theirs, ours in renamed.items():
            name = name.replace(theirs, ours)
        return name

    gradients = {"x": x.grad, **{key(name): p.grad.flatten() for name, p in network.named_parameters()}}
    return {"y": y.detach()}, gradients, {key(name): b.double() for name, b in network.named_buffers()}


def assert_same(got, want):
    """Close for the size of each tensor. The smallest bound is for gradients that are 0 in exact arithmetic."""
    assert got.keys() == want.keys()
    largest = max(float(value.abs().max()) for value in want.values())
    for key, value in want.items():
        bound = 1e-11 * float(value.abs().max()) + 1e-14 * largest
        torch.testing.assert_close(got[key], value, rtol=0, atol=bound, msg=lambda m, k=key: f"{k}: {m}")


class HardSigmoid(nn.Module):
    """As in the official code. PyTorch's own, which timm takes, has 1/6 in float32 in its gradient."""

    def forward(self, z):
        return (z + 3).clamp(0, 6) / 6


@pytest.mark.parametrize(
    ("name", "version", "width"),
    [("ghostnet_050", 1, 0.5), ("ghostnet_100", 1, 1.0), ("ghostnet_130", 1, 1.3), ("ghostnetv2_100", 2, 1.0)],
)
def test_equals_timms_in_float64(name, version, width, tmp_path):
    timm = pytest.importorskip("timm")
    theirs = disturb(timm.create_model(name, drop_rate=0.0).double())
    squeezes = [m for m in theirs.modules() if hasattr(m, "conv_reduce")]
    assert len(squeezes) == 7
    for squeeze in squeezes:
        squeeze.gate = HardSigmoid()
    ours = GhostNet(width=width, version=version, dropout=0.0).double()
    torch.save(theirs.state_dict(), tmp_path / "official.pth")
    assert ww.load(ours, tmp_path / "official.pth").complete
    with ww.backend("reference"):
        for training in (False, True):
            for got, want in zip(run(ours, training), run(theirs, training), strict=True):
                assert_same(got, want)


def written_down(w, x, outputs, hidden, kernel_size, stride, training):
    """A bottleneck of GhostNet or GhostNetV2 from the papers' formulas, with the tensors ``w`` of a state dict."""

    def norm(z, name):
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        if training:
            mean, var = z.mean((0, 2, 3)), z.var((0, 2, 3), correction=0)
        rows = (mean, var, w[f"{name}.weight"], w[f"{name}.bias"])
        mean, var, scale, shift = (row[:, None, None] for row in rows)
        return (z - mean) / (var + 1e-5).sqrt() * scale + shift

    def conv(z, name, stride=1):
        kernel = w[f"{name}.weight"]
        padding = kernel.shape[2] // 2, kernel.shape[3] // 2
        return F.conv2d(z, kernel, w.get(f"{name}.bias"), stride, padding, groups=z.shape[1] // kernel.shape[1])

    def ghost(z, name, n, relu):
        activation = torch.relu if relu else lambda maps: maps
        intrinsic = activation(norm(conv(z, f"{name}.primary_conv.0"), f"{name}.primary_conv.1"))
        cheap = activation(norm(conv(intrinsic, f"{name}.cheap_operation.0"), f"{name}.cheap_operation.1"))
        maps = torch.cat([intrinsic, cheap], 1)[:, :n]
        if f"{name}.short_conv.0.weight" not in w:
            return maps
        height, width = z.shape[2] // 2, z.shape[3] // 2
        g = z[:, :, : 2 * height, : 2 * width].unflatten(3, (width, 2)).unflatten(2, (height, 2)).mean((3, 5))
        for layer in (0, 2, 4):
            g = norm(conv(g, f"{name}.short_conv.{layer}"), f"{name}.short_conv.{layer + 1}")
        rows, columns = (torch.arange(s) * half // s for s, half in zip(z.shape[2:], (height, width), strict=True))
        return maps / (1 + torch.exp(-g[:, :, rows][:, :, :, columns]))

    y = ghost(x, "ghost1", hidden, relu=True)
    if stride > 1:
        y = norm(conv(y, "conv_dw", stride), "bn_dw")
    if "se.mlp.fc1.weight" in w:
        z = torch.relu(y.mean((2, 3)) @ w["se.mlp.fc1.weight"].T + w["se.mlp.fc1.bias"])
        z = z @ w["se.mlp.fc2.weight"].T + w["se.mlp.fc2.bias"]
        y = y * ((z + 3).clamp(0, 6) / 6)[:, :, None, None]
    y = ghost(y, "ghost2", outputs, relu=False)
    if stride > 1 or x.shape[1] != outputs:
        x = norm(conv(x, "shortcut.0", stride), "shortcut.1")
        x = norm(conv(x, "shortcut.2"), "shortcut.3")
    return y + x


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("outputs", "kernel_size", "stride", "se", "dfc"),
    [
        (8, 3, 1, False, False),
        (12, 5, 1, True, False),
        (7, 5, 2, True, False),
        (8, 3, 1, True, True),
        (12, 3, 2, False, True),
    ],
)
def test_a_bottleneck_equals_the_formulas(outputs, kernel_size, stride, se, dfc, training):
    generator = torch.Generator().manual_seed(2)
    block = disturb(GhostBottleneck(8, 22, outputs, kernel_size, stride, se, dfc).double()).train(training)
    x = torch.randn(3, 8, 9, 12, generator=generator, dtype=torch.float64).requires_grad_()
    w = {key: value.clone() for key, value in block.state_dict().items()}
    leaves = {"x": x} | {key: w[key].requires_grad_() for key, _ in block.named_parameters()}
    want = written_down(w, x, outputs, 22, kernel_size, stride, training)
    weights = torch.randn(want.shape, generator=generator, dtype=torch.float64)
    got = block(x)
    (got * weights).sum().backward()
    gradients = torch.autograd.grad((want * weights).sum(), list(leaves.values()))
    mine = {"x": x.grad, **{key: p.grad for key, p in block.named_parameters()}}
    assert_same({"y": got.detach()}, {"y": want.detach()})
    assert_same(mine, dict(zip(leaves, gradients, strict=True)))


def test_attention_in_and_out():
    network = GhostNet(classes=5, width=0.5).eval()
    x = torch.rand(2, 3, 64, 64)
    before = network(x)
    report = ww.insert(network, "cbam")
    assert len(report.inserted) == 16  # a residual branch a bottleneck
    assert torch.equal(network(x), before)
    assert sum(isinstance(a, ww.SE) for a in ww.attentions(network).values()) == 7
    ww.remove(network)
    assert torch.equal(network(x), before)
    assert len(ww.replace(network, "se", "cbam").replaced) == 7
    torch.testing.assert_close(network(x), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GhostNet(version=3), "versions 1 and 2"),
        (lambda: GhostNet(width=0), "must be above 0"),
    ],
)
def test_mistakes(make, says):
    with pytest.raises(ww.WhatwhereError, match=says):
        make()


@pytest.mark.parametrize(("name", "width"), [("ghostnet", None), ("ghostnetv2", 0.5)])
def test_by_name_with_attention_into_a_file_and_back(name, width, tmp_path):
    config = ww.ModelConfig(name, attention="cbam", classes=4, width=width)
    model = ww.build(config, size=64).eval()
    x = torch.rand(2, 3, 64, 64)
    again = ww.load_model(ww.save(model, tmp_path / "ghost.safetensors")).eval()
    assert torch.equal(again(x), model(x))
    assert type(again) is GhostNet
    with pytest.raises(ww.WhatwhereError, match="has no pretrained weights"):
        ww.build(ww.ModelConfig(name, pretrained=True))


def test_widened():
    plain = ww.ModelConfig("ghostnet", classes=10, width=0.5)
    count = count_parameters(build_plain(plain))
    wider = widen(plain, count + 10_000, size=64)
    assert count + 10_000 <= count_parameters(build_plain(wider)) < 1.1 * count


def test_odd_sizes():
    assert GhostBottleneck(4, 8, 4, stride=2)(torch.randn(2, 4, 5, 7)).shape == (2, 4, 3, 4)
    assert [round_width(w) for w in (1, 4, 5, 6, 22.3)] == [4, 4, 8, 8, 24]
