"""What cannot be folded, and the words that say why."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import whatwhere as ww


def reasons(model, images):
    return [site.why for site in ww.fold(model, images, seconds=0).sites]


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("bam", {}, "its gate is one number for each channel and position"),
        ("dfc", {}, "its gate is one number for each channel and position"),
        ("cbam", {"order": "parallel"}, "its gate is one number for each channel and position"),
        ("cbam", {"order": "spatial-channel"}, "its spatial gate is made from the map before the channel gate"),
        ("sam", {}, "it has no channel gate"),
        ("cbam", {"channel": False}, "it has no channel gate"),
    ],
)
def test_attentions_that_cannot_be_folded(network, still, images, name, options, why, snapshot, same):
    model = network()
    ww.insert(model, name, example=images[:1], **options)
    still(model)
    before = snapshot(model)
    assert reasons(model, images) == [why, why]
    assert same(snapshot(model), before)


class Own(nn.Module):
    """An attention that the network's own code calls, between layers of which none, one or both can take its gates."""

    def __init__(self, before, after, attention=None, shared=False):
        super().__init__()
        self.before, self.after, self.shared = before, after, shared
        self.attention_here = ww.SE(12) if attention is None else attention

    def forward(self, x):
        y = self.before(x)
        z = self.attention_here(y)
        out = self.after(z)
        return out + y.mean() + z.mean() if self.shared else out


def conv(**options):
    return nn.Conv2d(12, 12, 3, padding=1, **options)


@pytest.mark.parametrize("after", [conv(), conv(groups=3), conv(groups=12), conv(bias=False), nn.ReLU()], ids=str)
@pytest.mark.parametrize(
    "before", [conv(), nn.BatchNorm2d(12), nn.Sequential(conv(), nn.BatchNorm2d(12), nn.ReLU())], ids=str
)
def test_an_attention_of_the_networks_own(network, still, images, before, after):
    """Its gates go into the layer before it where that is linear, else into the convolution after it."""
    model = still(network(Own(copy.deepcopy(before), copy.deepcopy(after)))).eval()
    want = model(images)
    report = ww.fold(model, images, seconds=0)
    (site,) = report.sites
    if isinstance(before, nn.Sequential) and isinstance(after, nn.ReLU):
        assert site.why == ("ReLU is neither a convolution nor a batch normalisation")
        assert model(images).equal(want)
        return
    assert site.part == "all"
    assert type(model.blocks[0].attention_here) is nn.Identity
    assert report.parameters[1] < report.parameters[0]
    torch.testing.assert_close(model(images), want, rtol=1e-4, atol=1e-5)


def test_maps_that_others_use_too(network, still, images):
    model = still(network(Own(conv(), conv(), shared=True))).eval()
    assert reasons(model, images) == [
        "the network's own code calls it, and no layer alone makes its map, nor a convolution alone takes what it gives"
    ]


class Two(nn.Module):
    """Two attentions on one map, or one after the other with a convolution on the way from the first."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.before, self.after = kind, conv(), conv()
        self.one, self.two = ww.SE(12), ww.SE(12)

    def forward(self, x):
        y = self.before(x)
        if self.kind == "beside":
            return self.one(y) + self.two(y)
        z = self.one(F.relu(y))
        return self.after(z) + self.two(z)


@pytest.mark.parametrize("kind", ["beside", "both"])
def test_a_map_that_another_attention_uses_too(network, still, images, kind):
    model = still(network(Two(kind))).eval()
    want = model(images)
    report = ww.fold(model, images, seconds=0)
    assert report.folded == []
    assert model(images).equal(want)


def test_of_a_cbam_of_the_networks_own_the_spatial_part_stays(network, still, images):
    model = still(network(Own(conv(), conv(), ww.CBAM(12)))).eval()
    want, spatial = model(images), model.blocks[0].attention_here.spatial
    assert [p.part for p in ww.fold(model, images, seconds=0).sites] == ["channel"]
    assert model.blocks[0].attention_here is spatial
    torch.testing.assert_close(model(images), want, rtol=1e-4, atol=1e-5)
    model = still(network(Own(nn.Sequential(conv(), nn.ReLU()), conv(), ww.CBAM(12))))
    assert reasons(model, images) == ["ReLU is neither a convolution nor a batch normalisation"]


def test_squeeze_and_excitation_of_a_network_from_elsewhere(still):
    """MobileNetV3's stands between an activation and a convolution."""
    model = pytest.importorskip("timm").create_model("mobilenetv3_small_050").eval()
    x = torch.randn(16, 3, 64, 64)
    ww.replace(model, "se", "se", example=x[:1])
    with torch.no_grad():
        for attention in ww.attentions(model).values():
            attention.mlp.fc2.weight.zero_()
            attention.mlp.fc2.bias.normal_()
        want = model(x)
    report = ww.fold(model, x, seconds=0)
    assert len(report.folded) == 9
    assert ww.attentions(model) == {}
    torch.testing.assert_close(model(x), want, rtol=1e-3, atol=1e-5)


class WayIn(nn.Module):
    """A branch that ends in functions, then in a module that gives back what it got."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.drop = nn.Identity()

    def forward(self, x):
        return x + self.drop(F.relu(self.two(F.relu(self.one(x)))) * 2)


def test_attention_on_the_way_in(images, still):
    model = WayIn()
    ww.insert(model, "se", example=images[:1])
    site = next(iter(ww.attentions(model)))
    assert model.get_submodule(site)._forward_pre_hooks, "not what this test is about"
    assert reasons(still(model), images) == [
        "it is applied to what goes into Identity, not to what a layer with weights gives"
    ]


def test_layers_that_run_twice_or_share_their_weights(network, still, images):
    model = network()
    ww.insert(model, "se", example=images[:1])
    model.blocks.append(model.blocks[1])
    assert reasons(still(model), images) == ["", "it runs 2 times in a pass"]
    model = network()
    ww.insert(model, "se", example=images[:1])
    model.blocks[0].last.weight = model.blocks[0].conv.weight
    assert reasons(still(model), images) == ["another module shares the weights of Conv2d", ""]


def test_one_attention_in_two_places(network, still, images):
    model = network()
    ww.insert(model, "se", example=images[:1])
    model.blocks[1].last.attention = model.blocks[0].last.attention
    want = still(model).eval()(images)
    assert reasons(model, images) == ["it runs 2 times in a pass"]
    assert model(images).equal(want)


def test_other_hooks(network, still, images):
    model = network()
    ww.insert(model, "se", example=images[:1])
    model.blocks[0].last.register_forward_hook(lambda module, args, output: output + 1)
    assert reasons(still(model), images) == ["Conv2d has other hooks too", ""]


class Standardised(nn.Conv2d):
    """A convolution whose output does not follow its weight."""

    def forward(self, x):
        weight = self.weight / self.weight.flatten(1).norm(dim=1)[:, None, None, None]
        return F.conv2d(x, weight, self.bias, padding=1)


def test_layers_that_do_not_follow_their_weight(network, block, still, images):
    lazy = nn.utils.parametrizations.weight_norm(nn.Conv2d(12, 12, 3, padding=1))
    blocks = [Standardised(12, 12, 3), lazy, nn.BatchNorm2d(12, affine=False), nn.GroupNorm(3, 12)]
    model = network(*(block(12, last) for last in blocks))
    ww.insert(model, "se", example=images[:1])
    want = still(model).eval()(images)
    found = reasons(model, images)
    assert found[0] == "the output of Standardised does not follow its weight and bias"
    assert all(found)
    assert model(images).equal(want)


def test_timms_norms_with_and_without_an_activation(network, block, still, images):
    layers = pytest.importorskip("timm.layers")
    plain = layers.BatchNormAct2d(12, apply_act=False)
    bent = layers.BatchNormAct2d(12, act_layer=nn.ReLU6)
    model = network(block(12, plain), block(12, bent))
    ww.insert(model, "se", example=images[:1])
    still(model).eval()
    want = model(images)
    sites = {p.module: p for p in ww.fold(model, images, seconds=0).sites}
    assert sites["blocks.0.last"].part == "all"
    assert [p.part for n, p in sites.items() if n.startswith("blocks.1")] == [""]
    torch.testing.assert_close(model(images), want, rtol=1e-4, atol=1e-5)
