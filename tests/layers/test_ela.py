"""ELA: its formula again in NumPy, its groups, its start."""

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .lines_numpy import CLOSE, a_map, convolve, gate, group_norm, like_torch, randomised


def numpy_line(w, t, options, groups, norm_groups):
    z = convolve({"conv.weight": w["conv.weight"][:, :, None]}, "conv", t[:, :, None], groups)[:, :, 0]
    return gate(group_norm(w, "gn", z, norm_groups), options)


@pytest.mark.parametrize(
    ("options", "groups", "norm_groups"),
    [
        ({}, 32, 16),
        ({"kernel_size": 5, "norm_groups": 32}, 32, 32),
        ({"kernel_size": 5, "groups": 4}, 4, 16),
        ({"groups": 1, "norm_groups": 2}, 1, 2),
        ({"gate": "hard_sigmoid"}, 32, 16),
        ({"identity": True}, 32, 16),
    ],
    ids=str,
)
def test_formula(options, groups, norm_groups):
    x = a_map(3, 32, 6, 5)
    attention, w = randomised(ww.ELA(32, **options))
    g_h, g_w = (numpy_line(w, x.numpy().mean(axis), options, groups, norm_groups) for axis in (3, 2))
    want = x.numpy() * g_h[:, :, :, None] * g_w[:, :, None, :]
    for training in (False, True):
        np.testing.assert_allclose(attention.train(training)(x).detach(), want, **CLOSE)


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (7, 7), (8, 8), (17, 1), (20, 10), (34, 2), (48, 16)])
def test_groups_of_the_normalisation_where_16_do_not_divide(channels, groups):
    attention = ww.ELA(channels)
    assert attention.gn.num_groups == groups
    assert attention.conv.groups == channels
    assert attention.settings() == ww.ELA(channels, norm_groups=groups, groups=channels).settings()


@pytest.mark.parametrize("images", [1, 3])
def test_a_single_value_is_normalised_to_the_bias(images):
    x = a_map(images, 4, 1, 1)
    attention, w = randomised(ww.ELA(4), training=True)
    want = gate(w["gn.bias"], {}) ** 2
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * want[:, None, None], **CLOSE)


def test_the_start():
    torch.manual_seed(0)
    attention = ww.ELA(256)
    assert like_torch(attention.conv)
    assert attention.conv.bias is None
    gates = attention.gates(torch.randn(4, 256, 14, 14)).full
    assert gates.mean().item() == pytest.approx(attention.neutral, abs=0.02)
    assert (attention.neutral, ww.ELA(8, identity=True).neutral) == (0.25, 1.0)


@pytest.mark.parametrize("options", [{}, {"kernel_size": 5, "groups": 4}, {"groups": 1}], ids=str)
def test_options_that_shapes_tell(options):
    attention = ww.ELA(32, **options)
    found = attention.options_from_shapes({k: tuple(v.shape) for k, v in attention.state_dict().items()})
    assert found == {"kernel_size": 7, "groups": None, **options}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 6}, "kernel_size must be odd.*take 5 or 7"),
        ({"groups": 16}, "groups must divide the 20 channels, got 16: take 10 or 20"),
        ({"norm_groups": 32}, "norm_groups must divide the 20 channels, got 32: take 20"),
        ({"norm_groups": 3}, "norm_groups must divide the 20 channels, got 3: take 2 or 4"),
        ({"groups": 0}, "groups must be a whole number"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(WhatwhereError, match=message):
        ww.ELA(20, **options)
