"""GhostNet: equal to timm's (which has the official layout and names), counts of the paper's code, mistakes."""

import copy

import pytest
import torch
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
    """Outputs and every gradient of a pass in float64, and the running statistics after it."""
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
    return y, gradients, {key(name): b.double() for name, b in network.named_buffers()}


@pytest.mark.parametrize(
    ("name", "version", "width"), [("ghostnet_050", 1, 0.5), ("ghostnet_100", 1, 1.0), ("ghostnetv2_100", 2, 1.0)]
)
def test_equals_timms_in_float64(name, version, width, tmp_path):
    timm = pytest.importorskip("timm")
    theirs = disturb(timm.create_model(name, drop_rate=0.0).double())
    ours = GhostNet(width=width, version=version, dropout=0.0).double()
    torch.save(theirs.state_dict(), tmp_path / "official.pth")
    assert ww.load(ours, tmp_path / "official.pth").complete
    with ww.backend("reference"):
        for training in (False, True):
            want, got = run(theirs, training), run(ours, training)
            torch.testing.assert_close(got[0], want[0], rtol=1e-10, atol=1e-12)
            assert got[1].keys() == want[1].keys()
            largest = max(float(g.abs().max()) for g in want[1].values())
            for gradients, scale in ((1, largest), (2, 1.0)):
                for key, value in want[gradients].items():
                    torch.testing.assert_close(
                        got[gradients][key], value, rtol=1e-10, atol=1e-10 * scale, msg=lambda m, k=key: f"{k}: {m}"
                    )


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
