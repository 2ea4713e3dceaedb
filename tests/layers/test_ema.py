"""Efficient multi-scale attention: its formula again in NumPy, its groups, its start."""

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .lines_numpy import CLOSE, a_map, convolve, gate, group_norm, like_torch, randomised


def numpy_gates(w, x, options, groups):
    n, c, h, _ = x.shape
    made = np.empty_like(x)
    size = c // groups
    for image in range(n):
        for g in range(groups):
            q = x[image : image + 1, g * size : (g + 1) * size]
            lines = np.concatenate((q.mean(3), q.mean(2)), 2)[..., None]
            lines = expit(convolve(w, "conv1x1", lines))[:, :, :, 0]
            p = group_norm(w, "gn", q * lines[:, :, :h, None] * lines[:, :, None, h:], size)[0]
            r = convolve(w, "conv3x3", q)[0]
            z = np.einsum("c,chw->hw", softmax(p.mean((1, 2))), r) + np.einsum("c,chw->hw", softmax(r.mean((1, 2))), p)
            made[image, g * size : (g + 1) * size] = gate(z, options)
    return made


@pytest.mark.parametrize(
    ("options", "groups"),
    [
        ({}, 12),
        ({"groups": 3}, 3),
        ({"groups": 1}, 1),
        ({"groups": 3, "gate": "hard_sigmoid"}, 3),
        ({"groups": 4, "identity": True}, 4),
    ],
    ids=str,
)
def test_formula(options, groups):
    x = a_map(3, 12, 6, 5)
    attention, w = randomised(ww.EfficientMultiScaleAttention(12, **options))
    want = x.numpy() * numpy_gates(w, x.numpy(), options, groups)
    for training in (False, True):
        np.testing.assert_allclose(attention.train(training)(x).detach(), want, **CLOSE)


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (7, 7), (31, 31), (37, 1), (48, 24), (64, 32), (256, 32)])
def test_groups_where_32_do_not_divide(channels, groups):
    attention = ww.EfficientMultiScaleAttention(channels)
    assert attention.groups == groups
    assert attention.conv3x3.out_channels == channels // groups
    assert attention.settings() == ww.EfficientMultiScaleAttention(channels, groups=groups).settings()


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 4, 1, 1), (2, 4, 1, 5)])
def test_small_maps(shape):
    """One value is normalised to the bias."""
    x = a_map(*shape)
    attention, w = randomised(ww.EfficientMultiScaleAttention(shape[1], groups=1), training=True)
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * numpy_gates(w, x.numpy(), {}, 1), **CLOSE)


def test_the_official_start():
    torch.manual_seed(0)
    attention = ww.EfficientMultiScaleAttention(64, groups=2)
    assert like_torch(attention.conv1x1)
    assert like_torch(attention.conv3x3)
    assert attention.gn.weight.eq(1).all()
    assert ww.EfficientMultiScaleAttention(64).gates(torch.randn(4, 64, 9, 9)).full.mean().item() == pytest.approx(
        0.5, abs=0.1
    )
    assert sum(p.numel() for p in ww.EfficientMultiScaleAttention(256).parameters()) == 672


@pytest.mark.parametrize("channels", [7, 64])
def test_both_branches_learn_from_the_identity(channels):
    attention = ww.EfficientMultiScaleAttention(channels, identity=True)
    x = torch.randn(2, channels, 5, 4)
    assert attention(x).equal(x)
    (attention(x) * torch.rand(2, channels, 5, 4)).sum().backward()
    assert attention.conv3x3.weight.grad.abs().max() > 0
    assert attention.gn.weight.grad.abs().max() > 0


def test_names_with_a_prefix():
    trained = randomised(ww.EfficientMultiScaleAttention(64))[0].float()
    state = {f"model.9.ema.{key}": value for key, value in trained.state_dict().items()}
    got = ww.EfficientMultiScaleAttention(64).load_official(state)
    torch.testing.assert_close(got.state_dict(), trained.state_dict())
    with pytest.raises(WhatwhereError, match="of another shape"):
        ww.EfficientMultiScaleAttention(64, groups=8).load_official(state)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (32, "groups must divide the 48 channels, got 32: take 24 or 48"),
        (64, "groups must divide the 48 channels, got 64: take 48"),
        (0, "groups must be a whole number"),
    ],
)
def test_wrong_groups(groups, message):
    with pytest.raises(WhatwhereError, match=message):
        ww.EfficientMultiScaleAttention(48, groups=groups)
