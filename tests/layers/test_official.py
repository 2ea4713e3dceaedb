"""``load_official`` reads the state dicts of other code, and says what is wrong with those it cannot read."""

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.layers.ghost import DFCGhostModule

from ..checkpoints import official
from .test_peers import random_parameters

C = 32


@pytest.fixture
def x():
    return torch.randn(2, C, 9, 7, generator=torch.Generator().manual_seed(0))


def timms_dfc():
    """timm's ghost module of GhostNetV2, whose maps are its input here: what is left is that times its gates."""
    theirs = pytest.importorskip("timm.models.ghostnet").GhostModuleV2(C, C)
    theirs.primary_conv, theirs.cheap_operation = nn.Identity(), nn.Identity()
    return theirs


def peers():
    layers = pytest.importorskip("timm.layers")
    cbam = pytest.importorskip("timm.layers.cbam")
    torchvision = pytest.importorskip("torchvision")
    return {
        "official CBAM": (official.CBAM(C), ww.CBAM(C)),
        "official CBAM without a spatial part": (official.CBAM(C, spatial=False), ww.CBAM(C, spatial=False)),
        "official BAM": (official.BAM(C), ww.BAM(C)),
        "official ECA": (layers.EcaModule(C), ww.ECA(C)),
        "timm's DFC, which has the official names": (timms_dfc(), ww.DFC(C)),
        "timm's CBAM": (cbam.CbamModule(C, rd_ratio=1 / 16, rd_divisor=1), ww.CBAM(C)),
        "timm's CBAM into one without biases": (
            cbam.CbamModule(C, rd_ratio=1 / 16, rd_divisor=1),
            ww.CBAM(C, bias=False),
        ),
        "timm's SE": (layers.SEModule(C, rd_ratio=1 / 4, rd_divisor=1), ww.SE(C, reduction=4)),
        "timm's SqueezeExcite": (
            pytest.importorskip("timm.models._efficientnet_blocks").SqueezeExcite(C),
            ww.SE(C, reduction=4),
        ),
        "torchvision's SE": (torchvision.ops.SqueezeExcitation(C, C // 4), ww.SE(C, reduction=4)),
        "torchvision's SE with a hard sigmoid": (
            torchvision.ops.SqueezeExcitation(C, C // 4, scale_activation=nn.Hardsigmoid),
            ww.SE(C, reduction=4, gate="hard_sigmoid"),
        ),
    }


@pytest.mark.parametrize("prefix", ["", "module.", "layer1.0.attention."])
@pytest.mark.parametrize("name", list(peers()))
def test_real_spellings(name, prefix, x):
    theirs, ours = peers()[name]
    random_parameters(theirs)
    state = {prefix + key: value for key, value in theirs.state_dict().items()}
    got = ours.eval().load_official(state)
    assert got is ours
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("part", ["ChannelGate", "SpatialGate"])
def test_a_part_of_the_official_cbam(part, x):
    theirs = random_parameters(official.CBAM(C))
    ours = ww.ChannelAttention(C) if part == "ChannelGate" else ww.SpatialAttention(C)
    ours.load_official({f"{part}.{key}": value for key, value in getattr(theirs, part).state_dict().items()})
    whole = ww.CBAM(C).load_official(theirs.state_dict())
    assert all(torch.equal(v, whole.state_dict()[f"{part[:-4].lower()}.{k}"]) for k, v in ours.state_dict().items())


def state(**changes):
    found = official.CBAM(C).state_dict()
    for key, value in changes.items():
        found[key.replace("__", ".")] = value
    return {key: value for key, value in found.items() if value is not None}


@pytest.mark.parametrize(
    ("attention", "weights", "says"),
    [
        (lambda: ww.CBAM(C, identity=True), state(), "paper's form: make it with identity=False"),
        (
            lambda: ww.CBAM(C, identity=True, channel_identity=False),
            state(),
            "paper's form: make it with identity=False",
        ),
        (lambda: ww.CBAM(C), state(ChannelGate__mlp__1__weight=None), "missing: ChannelGate.mlp.1.weight"),
        (lambda: ww.CBAM(C), state(SpatialGate__extra=torch.ones(1)), "left over: SpatialGate.extra"),
        (lambda: ww.CBAM(C, spatial=False), state(), "left over: SpatialGate.spatial.conv.weight"),
        (
            lambda: ww.CBAM(C, kernel_size=3),
            state(),
            r"another shape: SpatialGate.spatial.conv.weight \(\(1, 2, 3, 3\) here, \(1, 2, 7, 7\)",
        ),
        (lambda: ww.CBAM(C, order="parallel"), state(), "order='parallel' where the checkpoint has 'channel-spatial'"),
        (lambda: ww.CBAM(C, pools="avg"), state(), r"pools=\('avg',\) where the checkpoint has \('avg', 'max'\)"),
        (lambda: ww.CBAM(C, spatial_pools=("avg", "max")), state(), "spatial_pools"),
        (lambda: ww.CBAM(C, gate="hard_sigmoid"), state(), "gate='hard_sigmoid'"),
        (lambda: ww.BAM(C, dilation=2), official.BAM(C).state_dict(), "dilation=2 where the checkpoint has 4"),
        (
            lambda: ww.DFC(C, identity=True),
            timms_dfc().state_dict(),
            "paper's form: make it with identity=False",
        ),
        (lambda: ww.DFC(C, gate="hard_sigmoid"), timms_dfc().state_dict(), "gate='hard_sigmoid'"),
        (
            lambda: ww.DFC(C),
            DFCGhostModule(C, 2 * C, kernel_size=3).short_conv.state_dict(prefix="short_conv."),
            r"another shape: short_conv.0.weight \(\(32, 32, 1, 1\) here, \(64, 32, 3, 3\) there",
        ),
        (lambda: ww.DFC(C), DFCGhostModule(C, C).state_dict(), "left over: primary_conv.0.weight"),
        (
            lambda: ww.BAM(C),
            state(),
            "none of these names is known for BAM .*ChannelGate.*the official BAM code: channel_att",
        ),
        (lambda: ww.CBAM(C), ww.CBAM(C).state_dict(), "names of whatwhere itself .*use CBAM.load_state_dict"),
        (lambda: ww.CBAM(C), {}, "nothing"),
        (lambda: ww.CBAM(C, device="meta"), state(), "meta device"),
        (lambda: ww.CBAM(C), {"state_dict": state()}, "'state_dict' is none: pass what is inside it"),
        (
            lambda: ww.CBAM(C, dtype=torch.float16),
            state(ChannelGate__mlp__1__bias=torch.full((2,), 1e6)),
            r"too large for the dtype here: ChannelGate.mlp.1.bias \(torch.float16\)",
        ),
        (
            lambda: ww.ECA(C),
            {f"layer{n}.{i}.eca.conv.weight": torch.ones(1, 1, 3) for n in range(4) for i in range(3)},
            r"left over: layer0.1.eca.conv.weight.* … \(11 in all\)",
        ),
    ],
)
def test_errors_leave_the_attention_alone(attention, weights, says):
    made = attention()
    before = {key: value.clone() for key, value in made.state_dict().items()}
    with pytest.raises(ww.WhatwhereError, match=says):
        made.load_official(weights)
    assert all(value.is_meta or torch.equal(value, before[key]) for key, value in made.state_dict().items())


def test_timms_light_cbam():
    theirs = pytest.importorskip("timm.layers.cbam").LightCbamModule(C)
    with pytest.raises(ww.WhatwhereError, match="light CBAM"):
        ww.CBAM(C).load_official(theirs.state_dict())
