import numpy as np
import pytest
import torch

import whatwhere as ww

from .gates_numpy import CLOSE, GATES, a_map, trained, weights


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(("channels", "size"), [(12, (5, 4)), (1, (1, 1)), (7, (1, 3))])
def test_the_formula(channels, size, gate):
    x = 5 * a_map(3, channels, *size)  # so that the hard gate has its flat parts
    attention = trained(ww.ESE(channels, gate=gate))
    w = weights(attention)
    c = GATES[gate](x.numpy().mean((2, 3)) @ w["fc.weight"][:, :, 0, 0].T + w["fc.bias"])
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * c[:, :, None, None], **CLOSE)


def test_the_default_gate_is_hard():
    attention = ww.ESE(2)
    with torch.no_grad():
        attention.fc.weight.zero_()
        attention.fc.bias.copy_(torch.tensor([4.0, -4.0]))
    assert attention.gates(torch.rand(1, 2, 2, 2)).channel.flatten().tolist() == [1, 0]


def test_the_start():
    x = a_map(2, 32, 6, 6).float()
    torch.manual_seed(0)
    gate = ww.ESE(32).gates(x).channel
    assert (gate - 0.5).abs().max() < 0.2
    assert gate.std() > 0
    assert ww.ESE(32, identity=True)(x).equal(x)


def test_the_official_names():
    weight, bias = torch.randn(8, 8, 1, 1), torch.randn(8)
    ours = ww.ESE(8).load_official({"OSA2_1.ese.fc.weight": weight, "OSA2_1.ese.fc.bias": bias})
    assert ours.fc.weight.equal(weight)
    # the same names with a sigmoid are those of ultralytics' CBAM
    assert ww.ESE(8, gate="sigmoid").load_official({"fc.weight": weight, "fc.bias": bias}).fc.bias.equal(bias)


def test_timms_is_the_same():
    theirs = pytest.importorskip("timm.layers").EffectiveSEModule(16)
    x = 5 * a_map(2, 16, 5, 4).float()
    torch.testing.assert_close(ww.ESE(16).load_official(theirs.state_dict())(x), theirs(x))
