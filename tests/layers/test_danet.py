"""DANet's two attentions against their formulas."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .residual_numpy import project, some_map
from .test_formulas import close, trained, weights


def positions_by_hand(w, u):
    q, k, v = (project(w, f"{name}_conv", u).reshape(len(u), -1, u[0, 0].size) for name in ("query", "key", "value"))
    y = u.reshape(*u.shape[:2], -1).copy()
    for n in range(len(u)):
        for i in range(y.shape[2]):
            a = softmax(np.array([q[n, :, i] @ k[n, :, j] for j in range(y.shape[2])]))
            y[n, :, i] += w["gamma"][0] * (v[n] @ a)
    return y.reshape(u.shape)


def channels_by_hand(w, u, sign):
    y = u.reshape(*u.shape[:2], -1).copy()
    for n in range(len(u)):
        rows = u[n].reshape(len(u[n]), -1)
        for i in range(len(rows)):
            a = softmax(np.array([sign * (rows[i] @ other) for other in rows]))
            y[n, i] += w["gamma"][0] * sum(weight * other for weight, other in zip(a, rows, strict=True))
    return y.reshape(u.shape)


@pytest.mark.parametrize(("c", "reduction", "h", "w"), [(16, 8, 5, 4), (11, 3, 1, 6), (5, 8, 3, 3), (1, 8, 1, 1)])
def test_positions(c, reduction, h, w):
    x = some_map(2, c, h, w)
    attention = trained(ww.PositionAttention(c, reduction=reduction))
    assert attention.query_conv.out_channels == max(1, c // reduction)
    np.testing.assert_allclose(attention(x).detach(), positions_by_hand(weights(attention), x.numpy()), **close)


@pytest.mark.parametrize(("form", "sign"), [("code", -1), ("paper", 1)])
@pytest.mark.parametrize("shape", [(2, 6, 3, 2), (2, 1, 4, 4), (3, 5, 1, 1)])
def test_channels(form, sign, shape):
    x = some_map(*shape, scale=0.6)
    attention = trained(ww.DANetChannelAttention(shape[1], form=form))
    np.testing.assert_allclose(attention(x).detach(), channels_by_hand(weights(attention), x.numpy(), sign), **close)


@pytest.mark.parametrize(("form", "who"), [("code", "the opposite channel"), ("paper", "the channel itself")])
def test_which_channel_weighs(form, who):
    """Four channels, of which the last is the opposite of the first: on maps of some size, one takes all."""
    x = some_map(1, 4, 8, 8)
    x[:, 3] = -x[:, 0]
    attention = ww.DANetChannelAttention(4, form=form).double()
    torch.nn.init.ones_(attention.gamma)
    added = (attention(x) - x)[:, 0]
    torch.testing.assert_close(added, x[:, 3] if who == "the opposite channel" else x[:, 0])


@pytest.mark.parametrize("name", ["danet_pam", "danet_cam"])
@pytest.mark.parametrize("identity", [False, True])
def test_starts_at_x_and_learns(name, identity):
    x = some_map(2, 16, 5, 5).float()
    attention = ww.create(name, 16, identity=identity)
    assert attention(x).equal(x)
    (attention(x) * some_map(2, 16, 5, 5, seed=1)).sum().backward()
    assert attention.gamma.grad.abs().max() > 0
    torch.nn.init.ones_(attention.gamma)
    attention.reset_parameters()
    assert attention.gamma.eq(0).all()


def test_parameters():
    assert sum(p.numel() for p in ww.PositionAttention(256).parameters()) == 82_241
    assert sum(p.numel() for p in ww.DANetChannelAttention(256).parameters()) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_sums_over_a_large_map_do_not_overflow(dtype, autocast):
    """4096 positions of 30: each dot product is 57 times what float16 holds."""
    x = (30 * some_map(1, 4, 64, 64)).to(dtype)
    attention = ww.DANetChannelAttention(4)
    torch.nn.init.constant_(attention.gamma, 0.5)
    want = attention(x.float())
    with torch.autocast("cpu", dtype, enabled=autocast):
        got = (attention if autocast else attention.to(dtype))(x)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), want, rtol=0.02, atol=0.3)


def test_names_of_whole_networks():
    for name, part, convolution in (("danet_pam", "sa", "head.conv5a"), ("danet_cam", "sc", "head.conv5c")):
        made = trained(ww.create(name, 16)).float()
        state = {f"head.{part}.{key}": value for key, value in made.state_dict().items()}
        for identity in (False, True):
            got = ww.create(name, 16, identity=identity).load_official(state)
            assert all(value.equal(made.state_dict()[key]) for key, value in got.state_dict().items())
        (key_map,) = (m for m in ww.layers.entry(name).key_maps if m.unit)
        match = key_map.match(f"head.{part}.gamma")
        assert match.expand(key_map.module) == convolution
        assert key_map.match(f"module.head.{part}.gamma").expand(key_map.module) == f"module.{convolution}"
    with pytest.raises(WhatwhereError, match="form='paper' where the checkpoint has 'code'"):
        ww.DANetChannelAttention(16, form="paper").load_official({"gamma": torch.zeros(1)})


@pytest.mark.parametrize(("channels", "reduction"), [(64, 8), (64, 4), (20, 8), (3, 8)])
def test_checkpoints_tell_the_reduction(channels, reduction):
    for cls in (ww.PositionAttention, ww.CrissCrossAttention):
        shapes = {key: tuple(p.shape) for key, p in cls(channels, reduction=reduction).state_dict().items()}
        assert cls.options_from_shapes(shapes) == {"reduction": reduction}
        assert cls.options_from_shapes({}) == {}


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: ww.PositionAttention(16, reduction=0), "reduction must be"),
        (lambda: ww.PositionAttention(0), "channels must be"),
        (lambda: ww.DANetChannelAttention(16, form="papr"), "unknown form 'papr'.*paper"),
    ],
)
def test_wrong_options(build, says):
    with pytest.raises(WhatwhereError, match=says):
        build()
