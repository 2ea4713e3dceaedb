"""Coordinate attention: its formula again in NumPy, its start, its names elsewhere."""

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.checkpoints.units import units
from whatwhere.errors import WhatwhereError

from .lines_numpy import CLOSE, a_map, batch_norm, convolve, gate, like_torch, randomised, statistics_follow


def numpy_gates(w, x, options, training):
    rows, columns = x.mean(3)[:, :, :, None], x.mean(2)[:, :, :, None]
    z = convolve(w, "conv1", np.concatenate((rows, columns), 2))
    u = batch_norm(w, "bn1", z, training)
    u = u * np.clip(u + 3, 0, 6) / 6
    height = x.shape[2]
    g_h = gate(convolve(w, "conv_h", u[:, :, :height]), options)
    g_w = gate(convolve(w, "conv_w", u[:, :, height:]), options)
    return g_h * g_w.transpose(0, 1, 3, 2), z


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"reduction": 2}, {"hidden": 3}, {"bias": False}, {"gate": "hard_sigmoid"}, {"identity": True}],
    ids=str,
)
def test_formula(options, training):
    x = a_map(3, 20, 6, 5)
    attention, w = randomised(ww.CoordinateAttention(20, **options), training)
    want, z = numpy_gates(w, x.numpy(), options, training)
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * want, **CLOSE)
    if training:
        statistics_follow(attention, w, "bn1", z, 0.1)


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(1, 32, 8), (255, 32, 8), (320, 32, 10), (20, 2, 10)])
def test_the_hidden_width_is_at_least_8(channels, reduction, hidden):
    assert ww.CoordinateAttention(channels, reduction=reduction).conv1.out_channels == hidden


def test_one_position_has_two_values_to_normalise():
    """A row and a column, which are equal: what is left is the bias."""
    x = a_map(1, 3, 1, 1)
    attention, w = randomised(ww.CoordinateAttention(3), training=True)
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * numpy_gates(w, x.numpy(), {}, True)[0], **CLOSE)


def test_the_official_start():
    torch.manual_seed(0)
    attention = ww.CoordinateAttention(256)
    assert all(like_torch(conv) for conv in (attention.conv1, attention.conv_h, attention.conv_w))
    assert attention.conv_h.bias.abs().max() > 0
    gates = attention.gates(torch.randn(4, 256, 14, 14)).full
    assert gates.mean().item() == pytest.approx(attention.neutral, abs=0.02)
    assert (attention.neutral, ww.CoordinateAttention(8, identity=True).neutral) == (0.25, 1.0)


@pytest.mark.parametrize("bias", [True, False])
def test_both_gates_learn_from_the_identity(bias):
    attention = ww.CoordinateAttention(16, identity=True, bias=bias)
    (attention(torch.randn(2, 16, 5, 4)) * torch.rand(2, 16, 5, 4)).sum().backward()
    assert attention.conv_h.weight.grad.abs().max() > 0
    assert attention.conv_w.weight.grad.abs().max() > 0


def test_timms():
    layers = pytest.importorskip("timm.layers.coord_attn")
    torch.manual_seed(0)
    theirs = layers.CoordAttn(64).double().eval()
    ours = ww.CoordinateAttention(64, hidden=theirs.conv1.out_channels, bias=False).double().eval()
    x = a_map(2, 64, 7, 9)
    ours.load_official({f"blocks.0.{key}": value for key, value in theirs.state_dict().items()})
    torch.testing.assert_close(ours(x), theirs(x))
    with pytest.raises(WhatwhereError, match=r"missing: conv1\.bias"):
        ww.CoordinateAttention(64).load_official(theirs.state_dict())


def test_the_names_of_the_published_mobilenet():
    trained = randomised(ww.CoordinateAttention(96, bias=True))[0]
    names = {"conv1": "conv1", "bn1": "bn1", "conv_h": "conv2", "conv_w": "conv3"}
    state = {}
    for key, value in trained.state_dict().items():
        part, leaf = key.split(".")
        state[f"module.features.2.conv.6.{names[part]}.{leaf}"] = value
    (unit,), rest = units({**state, "module.features.2.conv.7.weight": torch.ones(1)}.items())
    assert (unit.entry.name, unit.name, unit.options) == ("coordatt", "module.features.2.conv.6", ())
    assert rest == ["module.features.2.conv.7.weight"]
    got = ww.CoordinateAttention(96).load_official(state)
    torch.testing.assert_close(got.double().state_dict(), trained.state_dict(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"hidden": 5}, {"bias": False}], ids=str)
def test_options_that_shapes_tell(options):
    attention = ww.CoordinateAttention(64, **options)
    found = attention.options_from_shapes({k: tuple(v.shape) for k, v in attention.state_dict().items()})
    assert found == {"bias": True, **options}
    assert ww.CoordinateAttention(64, **found).settings() == attention.settings()


def test_widths_that_are_equal_are_the_same_setting():
    assert ww.CoordinateAttention(64).settings() == ww.CoordinateAttention(64, hidden=8, reduction=4).settings()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": 0}, "reduction must be a whole number"),
        ({"hidden": 0}, "hidden must be a whole number"),
        ({"bias": 1}, "bias must be True or False"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(WhatwhereError, match=message):
        ww.CoordinateAttention(16, **options)
