"""SRM: its formula in NumPy with running and batch statistics, its start, maps of one position, one image."""

import numpy as np
import pytest
import torch
from scipy.special import expit

import whatwhere as ww


def a_map(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def trained(attention):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in attention.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.3)
    return attention.double()


def logits(x, cfc):
    z = np.empty(x.shape[:2])
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            variance = x[n, c].var(ddof=1) if x[n, c].size > 1 else 0
            z[n, c] = cfc[c, 0] * x[n, c].mean() + cfc[c, 1] * np.sqrt(variance + 1e-5)
    return z


def normal(z, w, mean, variance):
    return (z - mean) / np.sqrt(variance + 1e-5) * w["bn.weight"] + w["bn.bias"]


def weights(attention):
    return {name: value.clone().numpy() for name, value in attention.state_dict().items()}


@pytest.mark.parametrize("size", [(6, 5), (1, 1), (1, 2)])
@pytest.mark.parametrize("identity", [False, True])
def test_formula(size, identity):
    x = a_map(4, 6, *size)
    attention = trained(ww.SRM(6, identity=identity)).eval()
    w = weights(attention)
    want = expit(normal(logits(x.numpy(), w["cfc"]), w, w["bn.running_mean"], w["bn.running_var"]))
    want = 2 * want if identity else want
    np.testing.assert_allclose(attention.gates(x).channel.detach()[:, :, 0, 0], want, rtol=1e-10)


def test_formula_in_training():
    x = a_map(4, 6, 6, 5)
    attention = trained(ww.SRM(6)).train()
    w = weights(attention)
    z = logits(x.numpy(), w["cfc"])
    want = expit(normal(z, w, z.mean(0), z.var(0)))
    np.testing.assert_allclose(attention.gates(x).channel.detach()[:, :, 0, 0], want, rtol=1e-9)
    after = weights(attention)
    mean, variance = 0.9 * w["bn.running_mean"] + 0.1 * z.mean(0), 0.9 * w["bn.running_var"] + 0.1 * z.var(0, ddof=1)
    np.testing.assert_allclose(after["bn.running_mean"], mean, rtol=1e-10)
    np.testing.assert_allclose(after["bn.running_var"], variance, rtol=1e-10)


def test_one_image_in_training_takes_the_running_statistics():
    x = a_map(1, 6, 4, 4)
    attention = trained(ww.SRM(6))
    w = weights(attention)
    want = normal(logits(x.numpy(), w["cfc"]), w, w["bn.running_mean"], w["bn.running_var"])
    got = attention.train().gates(x).channel.detach()
    np.testing.assert_allclose(got[:, :, 0, 0], expit(want), rtol=1e-10)
    assert attention.bn.running_mean.numpy() == pytest.approx(w["bn.running_mean"])


def test_start():
    x = a_map(3, 256, 4, 4)
    assert ww.SRM(256).double()(x).equal(x / 2)
    assert sum(p.numel() for p in ww.SRM(256).parameters()) == 1024


def test_a_constant_map_has_a_finite_gradient():
    x = torch.ones(4, 3, 5, 5, dtype=torch.float64).requires_grad_()
    trained(ww.SRM(3))(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("prefix", ["", "layer1.0.recalibration."])
def test_official_names(prefix):
    one = trained(ww.SRM(8)).eval()
    theirs = {prefix + name: value for name, value in one.state_dict().items()}
    assert f"{prefix}cfc" in theirs
    assert theirs[f"{prefix}cfc"].shape == (8, 2)
    x = a_map(2, 8, 4, 4)
    assert ww.SRM(8).double().eval().load_official(theirs)(x).equal(one(x))
