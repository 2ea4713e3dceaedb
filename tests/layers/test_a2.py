"""Double attention against its formula."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .residual_numpy import project, some_map
from .test_formulas import close, trained, weights


def by_hand(w, u, reconstruct, residual):
    a, b, v = (project(w, f"conv{letter}", u).reshape(len(u), -1, u[0, 0].size) for letter in "ABV")
    z = np.zeros_like(a)
    for n in range(len(u)):
        over_positions = [softmax(row) for row in b[n]]
        gathered = [sum(weight * a[n, :, p] for p, weight in enumerate(row)) for row in over_positions]
        for p in range(a.shape[2]):
            z[n, :, p] = sum(share * one for share, one in zip(softmax(v[n, :, p]), gathered, strict=True))
    z = z.reshape(*z.shape[:2], *u.shape[2:])
    z = project(w, "conv_reconstruct", z) if reconstruct else z
    return u + z if residual else z


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (16, {}),
        (3, {}),
        (16, {"width": 5, "descriptors": 7}),
        (10, {"reduction": 3}),
        (6, {"reconstruct": False}),
        (6, {"reconstruct": False, "width": 6, "descriptors": 1}),
    ],
    ids=str,
)
@pytest.mark.parametrize(("h", "w"), [(4, 5), (1, 1)])
def test_formula(channels, options, residual, h, w):
    x = some_map(2, channels, h, w)
    attention = trained(ww.DoubleAttention(channels, residual=residual, **options))
    want = by_hand(weights(attention), x.numpy(), options.get("reconstruct", True), residual)
    np.testing.assert_allclose(attention(x).detach(), want, **close)


def test_widths():
    def of(channels, **options):
        made = ww.DoubleAttention(channels, **options)
        return made.convA.out_channels, made.convB.out_channels, made.convV.out_channels

    assert of(64) == (16, 16, 16)
    assert of(64, reduction=2, descriptors=16) == (32, 16, 16)
    assert of(64, reconstruct=False) == (64, 16, 16)
    assert of(1) == (1, 1, 1)
    count = sum(p.numel() for p in ww.DoubleAttention(256, reduction=2, descriptors=64).parameters())
    assert count == 98_816


@pytest.mark.parametrize("options", [{}, {"reconstruct": False}], ids=str)
def test_the_identity_start_learns(options):
    x = some_map(2, 16, 5, 5).float()
    assert not ww.DoubleAttention(16, **options)(x).allclose(x, atol=1e-3)
    attention = ww.DoubleAttention(16, identity=True, **options)
    assert attention(x).equal(x)
    (attention(x) * some_map(2, 16, 5, 5, seed=1)).sum().backward()
    last = attention.conv_reconstruct or attention.convA
    assert last.weight.grad.abs().max() > 0


@pytest.mark.parametrize("reconstruct", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_channels_last_stays(reconstruct, residual):
    x = some_map(2, 8, 4, 5).float()
    attention = ww.DoubleAttention(8, reconstruct=reconstruct, residual=residual)
    y = attention(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert attention(x).is_contiguous()
    torch.testing.assert_close(y, attention(x))


@pytest.mark.parametrize("options", [{}, {"reconstruct": False}, {"width": 8, "descriptors": 2}], ids=str)
def test_checkpoints(options):
    made = trained(ww.DoubleAttention(16, residual=False, **options)).float()
    state = {f"net.a2.{key}": value for key, value in made.state_dict().items()}
    shapes = {key: tuple(value.shape) for key, value in made.state_dict().items()}
    told = ww.DoubleAttention.options_from_shapes(shapes)
    got = ww.DoubleAttention(16, residual=False, **told).load_official(state)
    x = some_map(2, 16, 4, 4).float()
    assert got(x).equal(made(x))
    with pytest.raises(WhatwhereError, match="residual=True where the checkpoint has False"):
        ww.DoubleAttention(16, **told).load_official(state)
    assert ww.DoubleAttention.options_from_shapes({}) == {}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reconstruct": False, "width": 8}, r"width is the channels, 16, not 8"),
        ({"identity": True, "residual": False}, "identity=True needs residual=True"),
        ({"width": 0}, "width must be"),
        ({"descriptors": 0}, "descriptors must be"),
        ({"reduction": 0}, "reduction must be"),
        ({"residual": 1}, "residual must be True or False"),
        ({"reconstruct": "yes"}, "reconstruct must be True or False"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(WhatwhereError, match=says):
        ww.DoubleAttention(16, **options)
