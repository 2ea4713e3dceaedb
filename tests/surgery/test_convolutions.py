"""Attention that convolves, in the place of a network's 3×3 convolutions."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock, ResNet

import whatwhere as ww
from whatwhere.layers import ATTENTIONS


class Pick(ww.Attention):
    """Two convolutions, of which a gate picks."""

    def __init__(self, channels, *, stride=1, identity=False, device=None, dtype=None):
        super().__init__(channels)
        self.identity, self.stride = identity, stride
        factory = {"bias": False, "device": device, "dtype": dtype}
        self.near = nn.Conv2d(channels, channels, 3, stride, 1, **factory)
        self.far = nn.Conv2d(channels, channels, 3, stride, 2, 2, **factory)
        self.reduce = nn.Conv2d(channels, 2, 1, **factory)
        self.expand = nn.Conv2d(2, channels, 1, device=device, dtype=dtype)

    def forward(self, x):
        near, far = self.near(x), self.far(x)
        gate = self.expand(self.reduce((near + far).mean((2, 3), keepdim=True))).sigmoid()
        return gate * near + (1 - gate) * far


class Plain(ww.Attention):
    """One convolution, without a stride, of multiples of 4 channels."""

    def __init__(self, channels, *, identity=False, device=None, dtype=None):
        super().__init__(channels)
        self.identity = identity
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1, device=device, dtype=dtype)

    def forward(self, x):
        return self.conv(x).relu()


@pytest.fixture(autouse=True)
def registered():
    traits = {"formula": "…", "kind": "replacing", "exact_identity": False}
    ww.register("pick", title="pick", **traits)(Pick)
    ww.register("plain", title="plain", channel_divisor=4, **traits)(Plain)
    yield
    ATTENTIONS.discard("pick")
    ATTENTIONS.discard("plain")


def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def small():
    torch.manual_seed(0)
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10).eval()


def replaced(model, new="pick", **options):
    with pytest.warns(UserWarning, match=f"{new!r} start from new weights, so the network's output changes by"):
        return ww.replace(model, "conv3x3", new, example=images(), **options)


def test_inserting_says_what_to_do():
    model = small()
    for options in ({}, {"identity": False}):
        with pytest.raises(ww.WhatwhereError, match=r"whatwhere\.replace\(model, 'conv3x3', 'pick', at="):
            ww.insert(model, "pick", example=images(), **options)


def test_the_convolutions_of_a_resnet():
    model = small()
    report = replaced(model)
    names = [one.module for one in report.replaced]
    assert names == ["layer1.0.conv1", *(f"layer{i}.0.conv2" for i in (1, 2, 3, 4))]
    assert {(one.old, one.new, one.kept) for one in report.replaced} == {("Conv2d", "pick", False)}
    assert report.replaced[0].size == (8, 8)
    before, after = report.replaced[0].multiply_adds
    assert before == 64 * 64 * 9 * 64
    assert after > 2 * before
    assert report.change > 1e-3
    assert "Conv2d" in str(report)
    assert model.layer1[0].conv1.identity is False
    assert list(ww.attentions(model)) == names
    model.train()(images()).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_stride_stays():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.Conv2d(8, 8, 3, padding="same"))
    shape = model(images()).shape
    plain = copy.deepcopy(model)
    replaced(model)
    assert (model[1].stride, model[2].stride) == (2, 1)
    assert model(images()).shape == shape
    report = replaced(plain, "plain")
    assert [one.module for one in report.replaced] == ["2"]
    assert report.others == {"1": "it has a stride of 2, and 'plain' has none"}
    with pytest.raises(ww.WhatwhereError, match="the stride is that of what is replaced"):
        ww.replace(plain, "conv3x3", "pick", stride=2)
    replaced_again = ww.replace(model, "pick", "pick", example=images())
    assert all(one.kept for one in replaced_again.replaced)
    assert model[1].stride == 2


def test_at_chooses():
    model = small()
    assert [one.module for one in replaced(model, at="layer[34].*").replaced] == ["layer3.0.conv2", "layer4.0.conv2"]
    assert type(model.layer1[0].conv1) is nn.Conv2d


class Standardised(nn.Conv2d):
    pass


def test_what_is_left_alone_is_said():
    conv = nn.Conv2d(8, 8, 3, 1, 1)
    hooked = nn.Conv2d(8, 8, 3, 1, 1)
    hooked.register_forward_hook(lambda *_: None)
    changed = nn.Conv2d(8, 8, 3, 1, 1)
    changed.forward = lambda x: x
    tied = nn.Conv2d(8, 8, 3, 1, 1, bias=False)
    twin = nn.Conv2d(8, 8, 3, 1, 1, bias=False)
    twin.weight = tied.weight
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, 1, 1),
        nn.Conv2d(6, 6, 3, 1, 1),
        nn.Conv2d(6, 8, 1),
        conv,
        Standardised(8, 8, 3, 1, 1),
        nn.Conv2d(8, 8, 3, 1, 2, 2),
        nn.Conv2d(8, 8, 3),
        nn.Conv2d(8, 8, 3, (1, 2), 1),
        hooked,
        changed,
        tied,
        twin,
        conv,
    )
    report = replaced(model, "plain")
    assert [one.module for one in report.replaced] == ["3"]
    assert model[3] is model[12]
    words = {
        "1": "6 channels",
        "4": "Standardised",
        "5": "dilation of 2",
        "6": r"padding of (0, 0)",
        "7": "strides (1, 2)",
        "8": "hooks",
        "9": "forward",
        "10": "shares its weights",
        "11": "shares its weights",
    }
    assert list(report.others) == list(words)
    assert all(word in report.others[name] for name, word in words.items())


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        (("conv3x3", "cbam"), {}, r"'cbam' is no convolution and cannot take the place of 'conv3x3'.*insert"),
        (("pick", "cbam"), {}, "'cbam' is no convolution"),
        (("se", "pick"), {}, r"'pick' replaces a 3×3 convolution, not 'se'.*'conv3x3', 'pick', at="),
        (("conv3x4", "cbam"), {}, "unknown attention 'conv3x4'"),
        (("conv3x3", "pick"), {"stride": 2}, "the stride is that of what is replaced"),
        (("conv3x3", "pick"), {"sharp": 2}, "no option 'sharp'"),
        (("conv3x3", "pick"), {"at": "layer9.*"}, "no 3×3 convolution .* under at='layer9"),
        (("pick", "pick"), {}, r"there is no 'pick'.*To put it in the place of 3×3 convolutions"),
    ],
)
def test_wrong_calls_leave_the_network_alone(arguments, options, says):
    model = small()
    before = dict(model.named_modules())
    with pytest.raises(ww.WhatwhereError, match=says):
        ww.replace(model, *arguments, example=images(), **options)
    assert dict(model.named_modules()) == before


def test_attention_behind_it_fusing_and_removing():
    model = small()
    replaced(model)
    want = model(images())
    assert len(ww.insert(model, "se", example=images()).inserted) == 4
    torch.testing.assert_close(model(images()), want)
    ww.fuse(model)
    torch.testing.assert_close(model(images()), want, rtol=1e-4, atol=1e-5)
    ww.unfuse(model)
    with pytest.warns(UserWarning, match=r"stays.*layer1.0.conv1 \(was Conv2d\).*build the network again"):
        assert ww.remove(model) == 4
    torch.testing.assert_close(model(images()), want)


def test_save_and_load(tmp_path):
    model = resnet18().eval()
    replaced(model, at="layer[12].*")
    assert model.layer2[0].conv1.stride == (2, 2)  # not as many outputs as inputs
    ww.insert(model, "se", at="layer1.*", example=images())
    again = ww.load_model(ww.save(model, tmp_path / "m.safetensors"))
    assert torch.equal(again(images()), model(images()))
    assert type(again.layer1[0].conv1) is Pick


def test_save_and_load_a_small_network_and_its_weights(tmp_path):
    model = ww.build(ww.ModelConfig("small-resnet"), size=32).eval()
    replaced(model)
    path = ww.save(model, tmp_path / "m.safetensors")
    again = ww.load_model(path)
    assert torch.equal(again(images()), model(images()))
    other = ww.build(ww.ModelConfig("small-resnet"), size=32).eval()
    replaced(other)
    assert ww.load(other, path).complete
    assert torch.equal(other(images()), model(images()))
