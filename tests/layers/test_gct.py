"""GCT: its formula in NumPy in each mode, its start, sums in float16, its key names."""

import copy

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.errors import WhatwhereError

FORMS = [("l2", False), ("l2", True), ("l1", False), ("l1", True)]


def a_map(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def trained(attention):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in attention.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return attention.double()


def gates(x, w, mode, after_relu, eps):
    alpha, gamma, beta = (w[name].reshape(-1) for name in ("alpha", "gamma", "beta"))
    found = np.empty(x.shape[:2])
    for n, image in enumerate(x):
        if mode == "l2":
            e = alpha * np.sqrt((image**2).sum((1, 2)) + eps)
            norm = np.sqrt((e**2).mean() + eps)
        else:
            e = alpha * (image if after_relu else abs(image)).sum((1, 2))
            norm = abs(e).mean() + eps
        found[n] = 1 + np.tanh(gamma / norm * e + beta)
    return found


@pytest.mark.parametrize(("mode", "after_relu"), FORMS)
@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_formula(mode, after_relu, identity, eps):
    x = a_map(3, 6, 5, 4)
    attention = trained(ww.GCT(6, mode=mode, after_relu=after_relu, eps=eps, identity=identity))
    w = {name: value.numpy() for name, value in attention.state_dict().items()}
    want = gates(x.numpy(), w, mode, after_relu, eps)
    np.testing.assert_allclose(attention.gates(x).channel.detach()[:, :, 0, 0], want, rtol=1e-10)
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * want[:, :, None, None], rtol=1e-10)


@pytest.mark.parametrize(("mode", "after_relu"), FORMS)
def test_both_forms_start_at_the_identity(mode, after_relu):
    x = a_map(2, 256, 4, 4).float()
    for identity in (False, True):
        attention = ww.GCT(256, mode=mode, after_relu=after_relu, identity=identity)
        assert attention(x).equal(x)
        assert attention.alpha.eq(1).all()
        assert sum(p.numel() for p in attention.parameters()) == 768


@pytest.mark.parametrize("mode", ["l1", "l2"])
def test_float16_sums_do_not_overflow(mode):
    x = torch.full((1, 3, 80, 80), 30.0)
    x[:, 1] = 1
    attention = trained(ww.GCT(3, mode=mode)).float()
    got = attention(x.half())
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), attention(x), rtol=5e-3, atol=1e-2)


@pytest.mark.parametrize("mode", ["l1", "l2"])
def test_a_map_of_zeros_has_a_finite_gradient(mode):
    x = torch.zeros(2, 4, 3, 3).requires_grad_()
    trained(ww.GCT(4, mode=mode)).float()(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("options", [{"mode": "l1"}, {"mode": "l1", "after_relu": True}], ids=str)
def test_the_l1_mode_in_other_layouts_dtypes_and_graphs(options):
    attention = trained(ww.GCT(8, **options)).float().eval()
    x = a_map(2, 8, 12, 10).float()
    want = attention(x)
    y = attention(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, want)
    half = copy.deepcopy(attention).bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), want, rtol=0.05, atol=0.05)
    sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=9), 3: torch.export.Dim("width", min=9)}
    program = torch.export.export(attention, (x,), dynamic_shapes=(sizes,))
    other = a_map(3, 8, 11, 17).float()
    torch.testing.assert_close(program.module()(other), attention(other))


@pytest.mark.parametrize("prefix", ["", "layer1.0.gct1."])
@pytest.mark.parametrize("identity", [False, True])
def test_official_names_load_into_both_forms(prefix, identity):
    one = trained(ww.GCT(8))
    theirs = {prefix + name: getattr(one, name).detach() for name in ("alpha", "gamma", "beta")}
    x = a_map(2, 8, 4, 4)
    assert ww.GCT(8, identity=identity).double().load_official(theirs)(x).equal(one(x))


def test_settings_leave_out_what_has_no_effect():
    assert ww.GCT(8, after_relu=True).settings() == ww.GCT(8, identity=True).settings()
    assert ww.GCT(8, after_relu=True, mode="l1").settings() != ww.GCT(8, mode="l1").settings()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "l3"}, "unknown mode 'l3': one of l1, l2"),
        ({"after_relu": 1}, "after_relu must be True or False"),
        ({"eps": 0}, "eps must be a finite number above 0"),
        ({"eps": True}, "eps must be a finite number above 0"),
    ],
    ids=str,
)
def test_bad_options(options, message):
    with pytest.raises(WhatwhereError, match=message):
        ww.GCT(8, **options)
