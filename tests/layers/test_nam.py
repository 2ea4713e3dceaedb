import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .gates_numpy import CLOSE, GATES, a_map, batch_norm, trained, weights


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("channels", [12, 7, 1])
def test_the_formula(channels, gate, training):
    x = 3 * a_map(4, channels, 5, 3)
    attention = trained(ww.NAM(channels, gate=gate)).train(training)
    w = weights(attention)
    share = (np.abs(w["bn2.weight"]) / np.abs(w["bn2.weight"]).sum()).reshape(1, -1, 1, 1)
    want = x.numpy() * GATES[gate](share * batch_norm(w, x.numpy(), "bn2", training))
    np.testing.assert_allclose(attention(x).detach(), want, **CLOSE)
    if training:
        mean = 0.9 * w["bn2.running_mean"] + 0.1 * x.numpy().mean((0, 2, 3))
        np.testing.assert_allclose(attention.bn2.running_mean, mean, **CLOSE)


@pytest.mark.parametrize("detach", [True, False])
def test_the_gradient_passes_the_shares_only_when_asked(detach):
    """Numerical derivatives in w, with the shares held where they are and with the shares that follow."""
    x = a_map(3, 5, 4, 4)
    attention = trained(ww.NAM(5, detach=detach))
    attention(x).sum().backward()
    w, step = weights(attention), 1e-6

    def total(weight, shares):
        z = batch_norm(w | {"bn2.weight": weight}, x.numpy(), "bn2")
        return (x.numpy() * GATES["sigmoid"](shares.reshape(1, -1, 1, 1) * z)).sum()

    def shares(weight):
        return np.abs(weight) / np.abs(weight).sum()

    before = w["bn2.weight"]
    want = []
    for direction in np.eye(5):
        up, down = before + step * direction, before - step * direction
        held = shares(before), shares(before)
        first, second = held if detach else (shares(up), shares(down))
        want.append((total(up, first) - total(down, second)) / (2 * step))
    np.testing.assert_allclose(attention.bn2.weight.grad, want, rtol=1e-6, atol=1e-8)


def test_the_start():
    x = a_map(8, 64, 6, 6).float()
    gate = ww.NAM(64).gates(x).full
    assert gate.min() > 0.48
    assert gate.max() < 0.52
    same = ww.NAM(64, identity=True)
    assert same(x).equal(x)
    (same(x) * a_map(8, 64, 6, 6, seed=1).float()).sum().backward()
    assert same.gamma.grad.abs() > 0
    assert ww.NAM(64).gamma is None


def test_weights_of_0_have_no_share():
    attention = ww.NAM(4).eval()
    torch.nn.init.zeros_(attention.bn2.weight)
    x = a_map(2, 4, 3, 3).float()
    torch.testing.assert_close(attention(x), x / 2)


def test_the_official_names():
    official = {
        f"layer1.0.nam.Channel_Att.bn2.{name}": torch.rand(4)
        for name in ("weight", "bias", "running_mean", "running_var")
    }
    ours = ww.NAM(4).load_official(official)
    assert ours.bn2.running_var.equal(official["layer1.0.nam.Channel_Att.bn2.running_var"])
    with pytest.raises(WhatwhereError, match="detach must be True or False"):
        ww.NAM(4, detach=0)
