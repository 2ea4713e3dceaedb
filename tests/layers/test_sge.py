"""SGE: its formula in NumPy, its groups, maps of one position and without variance, its key names."""

import numpy as np
import pytest
import torch
from scipy.special import expit

import whatwhere as ww
from whatwhere.errors import WhatwhereError


def a_map(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def trained(attention):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in attention.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return attention.double()


def gates(x, weight, bias, groups):
    size = x.shape[1] // groups
    found = np.empty_like(x)
    for n in range(x.shape[0]):
        for g in range(groups):
            channels = range(g * size, (g + 1) * size)
            t = sum(x[n, c] * x[n, c].mean() for c in channels)
            t = (t - t.mean()) / (t.std(ddof=1) + 1e-5)
            for c in channels:
                found[n, c] = expit(weight[0, g, 0, 0] * t + bias[0, g, 0, 0])
    return found


@pytest.mark.parametrize(("channels", "groups", "taken"), [(24, 4, 4), (24, None, 24), (128, None, 64), (96, None, 48)])
@pytest.mark.parametrize("identity", [False, True])
def test_formula(channels, groups, taken, identity):
    x = a_map(2, channels, 6, 4)
    attention = trained(ww.SGE(channels, groups=groups, identity=identity))
    assert attention.weight.shape == attention.bias.shape == (1, taken, 1, 1)
    want = gates(x.numpy(), attention.weight.detach().numpy(), attention.bias.detach().numpy(), taken)
    want = 2 * want if identity else want
    np.testing.assert_allclose(attention.gates(x).full.detach(), want, rtol=1e-10)
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * want, rtol=1e-10)


def test_start():
    x = a_map(2, 64, 5, 5)
    torch.testing.assert_close(ww.SGE(64).double()(x), x * expit(1))
    assert sum(p.numel() for p in ww.SGE(256).parameters()) == 128


@pytest.mark.parametrize("x", [a_map(2, 8, 1, 1), torch.zeros(2, 8, 4, 4, dtype=torch.float64)], ids=["1 × 1", "zeros"])
def test_maps_without_variance_have_the_bias_alone(x):
    attention = trained(ww.SGE(8, groups=4))
    x = x.requires_grad_()
    want = x * attention.bias.sigmoid().repeat_interleave(2, 1)
    torch.testing.assert_close(attention(x), want)
    attention(x).sum().backward()
    assert x.grad.isfinite().all()


def test_the_smallest_variance_has_a_finite_gradient():
    x = torch.full((1, 4, 3, 3), 0.5)
    x[0, 0, 0, 0] = 0.5 + 2**-24
    attention = trained(ww.SGE(4, groups=1)).float()
    x.requires_grad_()
    attention(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("prefix", ["", "layer1.0.sge."])
def test_official_names(prefix):
    one = trained(ww.SGE(32, groups=8))
    theirs = {f"{prefix}weight": one.weight.detach(), f"{prefix}bias": one.bias.detach()}
    x = a_map(2, 32, 4, 4)
    assert ww.SGE(32, groups=8).double().load_official(theirs)(x).equal(one(x))
    assert ww.SGE.options_from_shapes({"weight": (1, 8, 1, 1)}) == {"groups": 8}
    with pytest.raises(WhatwhereError, match="of another shape"):
        ww.SGE(32).load_official(theirs)


def test_bad_groups():
    with pytest.raises(WhatwhereError, match="groups must divide the 20 channels, got 8: take 5 or 10"):
        ww.SGE(20, groups=8)
