"""Shuffle attention: its formula in NumPy, its permutation, its groups, its key names."""

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


def gated(x, w, groups):
    """Every channel times its gate, in place."""
    channels = x.shape[1]
    half = channels // groups // 2
    y = np.empty_like(x)
    for n in range(x.shape[0]):
        for c in range(channels):
            within = c % (2 * half)
            i = within % half
            if within < half:
                z = w["cweight"][0, i, 0, 0] * x[n, c].mean() + w["cbias"][0, i, 0, 0]
            else:
                normal = (x[n, c] - x[n, c].mean()) / np.sqrt(x[n, c].var() + 1e-5)
                normal = normal * w["gn.weight"][i] + w["gn.bias"][i]
                z = w["sweight"][0, i, 0, 0] * normal + w["sbias"][0, i, 0, 0]
            y[n, c] = x[n, c] * expit(z)
    return y


def shuffled(y):
    """Channel 2i is channel i, channel 2i + 1 is channel C/2 + i."""
    z = np.empty_like(y)
    z[:, 0::2], z[:, 1::2] = y[:, : y.shape[1] // 2], y[:, y.shape[1] // 2 :]
    return z


@pytest.mark.parametrize(("channels", "groups", "taken"), [(24, 3, 3), (24, None, 12), (128, None, 64), (2, None, 1)])
@pytest.mark.parametrize("size", [(5, 4), (1, 1)])
def test_formula(channels, groups, taken, size):
    x = a_map(2, channels, *size)
    attention = trained(ww.ShuffleAttention(channels, groups=groups))
    w = {name: value.numpy() for name, value in attention.state_dict().items()}
    assert w["cweight"].shape == (1, channels // (2 * taken), 1, 1)
    want = shuffled(gated(x.numpy(), w, taken))
    np.testing.assert_allclose(attention(x).detach(), want, rtol=1e-10, atol=1e-12)


def test_the_identity_form_keeps_the_order_and_doubles_the_gates():
    x = a_map(2, 24, 5, 4)
    attention = trained(ww.ShuffleAttention(24, groups=3, identity=True))
    w = {name: value.numpy() for name, value in attention.state_dict().items()}
    np.testing.assert_allclose(attention(x).detach(), 2 * gated(x.numpy(), w, 3), rtol=1e-10, atol=1e-12)


def test_one_image_of_one_position_in_training():
    x = a_map(1, 2, 1, 1)
    assert ww.ShuffleAttention(2, identity=True).double().train()(x).equal(x)


def test_start():
    x = a_map(2, 256, 4, 4)
    attention = ww.ShuffleAttention(256).double()
    assert sum(p.numel() for p in attention.parameters()) == 12
    np.testing.assert_allclose(attention(x).detach(), shuffled(x.numpy()) * expit(1), rtol=1e-12)


@pytest.mark.parametrize(("channels", "groups"), [(128, 64), (192, 48), (256, 64), (20, 10), (2048, 64), (134, 1)])
def test_groups_that_fit(channels, groups):
    assert ww.ShuffleAttention(channels).groups == groups


@pytest.mark.parametrize("identity", [False, True])
def test_every_parameter_has_a_gradient_at_the_start(identity):
    attention = ww.ShuffleAttention(32, groups=4, identity=identity).double()
    (attention(a_map(4, 32, 5, 5)) * a_map(32, 5, 5)).sum().backward()
    first = ("cweight", "cbias", "sweight", "sbias")  # the norm's own follow when sweight is no longer 0
    assert all(attention.get_parameter(name).grad.abs().max() > 0 for name in first)


@pytest.mark.parametrize("prefix", ["", "layer1.0.sa."])
def test_official_names(prefix):
    trained_one = trained(ww.ShuffleAttention(32, groups=8))
    theirs = {prefix + name: value for name, value in trained_one.state_dict().items()}
    names = {prefix + name for name in ("cweight", "cbias", "sweight", "sbias", "gn.weight", "gn.bias")}
    assert set(theirs) == names
    x = a_map(2, 32, 4, 4)
    loaded = ww.ShuffleAttention(32, groups=8).double().load_official(theirs)
    assert loaded(x).equal(trained_one(x))
    with pytest.raises(WhatwhereError, match="identity=True"):
        ww.ShuffleAttention(32, groups=8, identity=True).load_official(theirs)
    with pytest.raises(WhatwhereError, match="of another shape"):
        ww.ShuffleAttention(32).load_official(theirs)


def test_bad_options():
    with pytest.raises(WhatwhereError, match=r"multiple of 2 .* got 7: take 6 or 8"):
        ww.ShuffleAttention(7)
    with pytest.raises(WhatwhereError, match="groups must divide half of the 20 channels, got 4: take 2"):
        ww.ShuffleAttention(20, groups=4)
    with pytest.raises(WhatwhereError, match="groups must be a whole number"):
        ww.ShuffleAttention(20, groups=0)
