"""SimAM: its formula in NumPy, its start, maps of one position, the form that learns."""

import numpy as np
import pytest
import torch
from scipy.special import expit

import whatwhere as ww
from whatwhere.errors import WhatwhereError


def a_map(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def logits(x, regularisation):
    positions = x.shape[2] * x.shape[3]
    z = np.empty_like(x)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            distance = (x[n, c] - x[n, c].mean()) ** 2
            z[n, c] = distance / (4 * (distance.sum() / (positions - 1) + regularisation)) + 0.5
    return z


@pytest.mark.parametrize("regularisation", [1e-4, 0.1, 3])
@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid"])
def test_formula(regularisation, gate):
    x = a_map(3, 5, 6, 4)
    attention = ww.SimAM(5, regularisation=regularisation, gate=gate)
    z = logits(x.numpy(), regularisation)
    want = expit(z) if gate == "sigmoid" else np.clip(z + 3, 0, 6) / 6
    np.testing.assert_allclose(attention.gates(x).full, want, rtol=1e-12)
    np.testing.assert_allclose(attention(x), x.numpy() * want, rtol=1e-12)


def test_the_form_that_learns_has_one_parameter():
    x = a_map(2, 4, 5, 5)
    attention = ww.SimAM(4, identity=True).double()
    assert {n: p.item() for n, p in attention.named_parameters()} == {"gamma": 0}
    attention.gamma.data.fill_(-0.7)
    np.testing.assert_allclose(attention.gates(x).full.detach(), 2 * expit(-0.7 * logits(x.numpy(), 1e-4)), rtol=1e-12)
    attention.reset_parameters()
    assert attention(x).equal(x)
    assert list(ww.SimAM(4).parameters()) == []


def test_one_position_has_no_variance():
    x = a_map(2, 3, 1, 1)
    np.testing.assert_allclose(ww.SimAM(3)(x), x.numpy() * expit(0.5), rtol=1e-12)


def test_the_gate_only_damps():
    gate = ww.SimAM(8).gates(a_map(2, 8, 7, 7)).full
    assert expit(0.5) <= gate.min()
    assert gate.max() < 1
    assert gate.mean() == pytest.approx(0.65, abs=0.03)


def test_large_values_in_float16():
    x = 300 * a_map(1, 4, 40, 40, dtype=torch.float32)
    torch.testing.assert_close(ww.SimAM(4)(x.half()).float(), ww.SimAM(4)(x), rtol=5e-3, atol=1e-2)


@pytest.mark.parametrize("regularisation", [0, -1.0, float("inf"), float("nan"), True, "0.1"])
def test_bad_regularisation(regularisation):
    with pytest.raises(WhatwhereError, match="regularisation must be a finite number above 0"):
        ww.SimAM(4, regularisation=regularisation)
