"""Criss-cross attention against its formula."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .residual_numpy import project, some_map
from .test_formulas import close, trained, weights


def by_hand(w, u):
    q, k, v = (project(w, f"{name}_conv", u) for name in ("query", "key", "value"))
    y, (height, width) = u.copy(), u.shape[2:]
    for n, h, j in np.ndindex(len(u), height, width):
        cross = [(i, j) for i in range(height) if i != h] + [(h, i) for i in range(width)]
        assert len(cross) == height + width - 1
        a = softmax(np.array([q[n, :, h, j] @ k[n, :, r, c] for r, c in cross]))
        y[n, :, h, j] += w["gamma"][0] * sum(weight * v[n, :, r, c] for weight, (r, c) in zip(a, cross, strict=True))
    return y


@pytest.mark.parametrize(("c", "h", "w"), [(16, 5, 4), (11, 3, 7), (5, 1, 6), (5, 6, 1), (1, 1, 1)])
@pytest.mark.parametrize("recurrence", [1, 2, 3])
def test_formula(c, h, w, recurrence):
    x = some_map(2, c, h, w)
    attention = trained(ww.CrissCrossAttention(c, recurrence=recurrence))
    want = x.numpy()
    for _ in range(recurrence):
        want = by_hand(weights(attention), want)
    np.testing.assert_allclose(attention(x).detach(), want, **close)


@pytest.mark.parametrize(("recurrence", "sees"), [(1, 5 + 4 - 1), (2, 5 * 4)])
def test_how_many_positions_one_sees(recurrence, sees):
    x = some_map(1, 8, 5, 4).requires_grad_()
    trained(ww.CrissCrossAttention(8, recurrence=recurrence))(x)[0, :, 2, 1].sum().backward()
    assert (x.grad.abs().sum((0, 1)) > 0).sum() == sees


@pytest.mark.parametrize("recurrence", [1, 2])
@pytest.mark.parametrize("identity", [False, True])
def test_starts_at_x_and_learns(recurrence, identity):
    x = some_map(2, 16, 5, 5).float()
    attention = ww.CrissCrossAttention(16, recurrence=recurrence, identity=identity)
    assert attention(x).equal(x)
    (attention(x) * some_map(2, 16, 5, 5, seed=1)).sum().backward()
    assert attention.gamma.grad.abs().max() > 0


def test_parameters_are_shared():
    assert sum(p.numel() for p in ww.CrissCrossAttention(256).parameters()) == 82_241
    assert sum(p.numel() for p in ww.CrissCrossAttention(256, recurrence=2).parameters()) == 82_241


@pytest.mark.parametrize("identity", [False, True])
def test_spellings(identity):
    made = trained(ww.CrissCrossAttention(16, reduction=4)).float()
    official = {f"head.cca.{key}": value for key, value in made.state_dict().items()}
    mmcv = {k: v for k, v in official.items() if "gamma" not in k} | {"head.cca.gamma.scale": made.gamma.detach()[0]}
    assert mmcv["head.cca.gamma.scale"].dim() == 0
    for state in (official, mmcv):
        got = ww.CrissCrossAttention(16, reduction=4, recurrence=2, identity=identity).load_official(state)
        assert all(value.equal(made.state_dict()[key]) for key, value in got.state_dict().items())


@pytest.mark.parametrize("options", [{"recurrence": 0}, {"recurrence": 1.5}, {"reduction": 0}])
def test_wrong_options(options):
    with pytest.raises(WhatwhereError, match=f"{next(iter(options))} must be a whole number"):
        ww.CrissCrossAttention(16, **options)


def test_half_precision_keeps_the_mask():
    x = some_map(1, 8, 5, 4)
    attention = trained(ww.CrissCrossAttention(8))
    want = attention(x)
    torch.testing.assert_close(attention.half()(x.half()).double(), want, rtol=0.02, atol=0.02)
