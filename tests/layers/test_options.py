"""Wrong options fail at construction, with words that say what came, what is allowed and what to do."""

import pytest

import whatwhere as ww
from whatwhere.errors import WhatwhereError
from whatwhere.layers import parse


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: ww.create("cbma", 8), "did you mean 'cbam'"),
        (lambda: ww.create("cbam", 8, kernl_size=3), "did you mean 'kernel_size'"),
        (lambda: ww.SpatialAttention(8, kernel_size=6), "odd.*got 6: take 5 or 7"),
        (lambda: ww.SpatialAttention(8, kernel_size=0), "at least 1, got 0"),
        (lambda: ww.SpatialAttention(8, pools=("max", "lp")), "unknown pool 'lp': one of avg, max, conv"),
        (lambda: ww.SpatialAttention(8, pools=("max", "conv")), "stands alone"),
        (lambda: ww.ChannelAttention(8, pools=()), "pools is empty"),
        (lambda: ww.ChannelAttention(8, pools=("avg", "avg")), "twice"),
        (lambda: ww.ChannelAttention(8, pools="mex"), "did you mean 'max'"),
        (lambda: ww.SE(8, reduction=0), "reduction must be a whole number of at least 1, got 0"),
        (lambda: ww.SE(8, gate="hard_sigmoyd"), "did you mean 'hard_sigmoid'"),
        (lambda: ww.CBAM(8, channel=False, spatial=False), "leave nothing"),
        (lambda: ww.CBAM(8, order="paralel"), "did you mean 'parallel'"),
        (lambda: ww.CBAM(8, order="parallel", spatial=False), "needs both"),
        (lambda: ww.CBAM(8, spatial=False, kernel_size=4), "odd"),
        (lambda: ww.CBAM(8, channel=False, pools="mix"), "unknown pool"),
        (lambda: ww.CBAM(8, identity="channel"), "identity must be True or False, got 'channel'"),
        (lambda: ww.SE(8, identity=1), "identity must be True or False, got 1"),
        (lambda: ww.CBAM(8, channel_identity="spatial"), "channel_identity must be True or False"),
        (lambda: ww.CBAM(8, channel_identity=False, order="parallel"), "a channel gate of its own"),
        (lambda: ww.CBAM(8, channel_identity=False, channel=False), "a channel gate of its own"),
        (lambda: ww.SE(8, hidden=0), "hidden must be a whole number of at least 1, got 0"),
        (lambda: ww.SE(8, activation="rellu"), "did you mean 'relu'"),
        (lambda: ww.ECA(8, kernel_size=4), "odd.*got 4: take 3 or 5"),
        (lambda: ww.BAM(8, combine="add"), "unknown combine"),
        (lambda: ww.BAM(8, dilation=0), "dilation must be"),
    ],
)
def test_wrong_options(build, says):
    with pytest.raises(WhatwhereError, match=says):
        build()


def test_a_class_refuses_unknown_options_too():
    with pytest.raises(TypeError, match="kernl_size"):
        ww.CBAM(8, kernl_size=3)


@pytest.mark.parametrize(
    ("text", "name", "identity", "options"),
    [
        ("se", "se", True, {}),
        ("cbam:paper", "cbam", False, {}),
        (
            "cbam:pools=avg+max:reduction=8:spatial=false:order=spatial-channel",
            "cbam",
            True,
            {"pools": ("avg", "max"), "reduction": 8, "spatial": False, "order": "spatial-channel"},
        ),
        ("none", "none", True, {}),
    ],
)
def test_specs(text, name, identity, options):
    spec = parse(text)
    assert (spec.name, spec.identity, spec.options) == (name, identity, options)
    if name != "none":
        assert spec.create(16).identity is identity


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cbam:papr", "'papr' in 'cbam:papr' is neither a flag nor OPTION=VALUE.*paper.*did you mean 'paper'"),
        ("cbam:identity=true", "write 'paper'"),
        ("cbam:reducton=3", "did you mean 'reduction'"),
        ("sem", "did you mean 'se'"),
        ("none:paper", "takes no options"),
        ("", "unknown attention"),
    ],
)
def test_wrong_specs(text, says):
    with pytest.raises(WhatwhereError, match=says):
        parse(text)
