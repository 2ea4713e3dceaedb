import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .gates_numpy import CLOSE, GATES, a_map, pointwise, trained, weights


def branches(w, x, gate="sigmoid"):
    hidden = np.maximum(x.mean((2, 3)) @ w["cSE.fc1.weight"].T + w["cSE.fc1.bias"], 0)
    channel = GATES[gate](hidden @ w["cSE.fc2.weight"].T + w["cSE.fc2.bias"])
    return channel[:, :, None, None], GATES[gate](pointwise(w, x, "sSE.conv"))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("combine", ["max", "add"])
@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(12, 2, 6), (7, 3, 2), (3, 16, 1), (1, 2, 1)])
def test_the_formula(channels, reduction, hidden, combine, gate):
    x = a_map(3, channels, 5, 4)
    attention = trained(ww.SCSE(channels, reduction=reduction, combine=combine, gate=gate))
    assert attention.cSE["fc1"].out_features == hidden
    c, s = branches(weights(attention), x.numpy(), gate)
    want = np.maximum(x.numpy() * c, x.numpy() * s) if combine == "max" else x.numpy() * c + x.numpy() * s
    np.testing.assert_allclose(attention(x).detach(), want, **CLOSE)
    np.testing.assert_allclose((x * attention.gates(x).full).detach(), want, **CLOSE)


def test_a_negative_value_takes_the_smaller_gate():
    attention = trained(ww.SCSE(4))
    x = a_map(1, 4, 3, 3)
    c, s = attention.branches(x)
    ratio = attention(x) / x
    torch.testing.assert_close(ratio[x < 0], torch.minimum(c, s)[x < 0])
    torch.testing.assert_close(ratio[x > 0], torch.maximum(c, s)[x > 0])


def test_zeros_have_the_gradient_of_a_tie():
    """The gates' product has the gradient of the maximum of products, where x is 0 too."""
    attention = trained(ww.SCSE(6))
    x = torch.relu(a_map(2, 6, 4, 4))
    assert (x == 0).any()
    grads = []
    for call in (attention, lambda u: u * attention.gates(u).full):
        attention.zero_grad()
        u = x.clone().requires_grad_()
        call(u).square().sum().backward()
        call(u).sum().backward()
        grads.append([u.grad, *(p.grad.clone() for p in attention.parameters())])
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.parametrize("combine", ["max", "add"])
def test_the_start(combine):
    x = a_map(2, 32, 6, 6).float()
    torch.manual_seed(0)
    official = ww.SCSE(32, combine=combine)
    ratio = (official(x) / x).detach()
    assert ratio.mean().item() == pytest.approx(1.0 if combine == "add" else 0.5, abs=0.1)
    assert official.cSE["fc2"].bias.abs().max() > 0
    same = ww.SCSE(32, combine=combine, identity=True)
    assert same(x).equal(x)
    (same(x) * x.flip(0)).sum().backward()
    assert all(same.get_parameter(f"{name}.weight").grad.abs().max() > 0 for name in ("cSE.fc2", "sSE.conv"))


def test_the_listener_to_gates_hears_them():
    """A method that replaces gates on the instance is called."""
    attention, heard = trained(ww.SCSE(4)), []
    before = attention.gates
    attention.gates = lambda x: heard.append(before(x)) or heard[-1]
    x = a_map(1, 4, 3, 3)
    torch.testing.assert_close(attention(x), x * heard[0].full)


def test_the_names_of_segmentation_models():
    theirs = {
        "decoder.cSE.1.weight": torch.randn(2, 32, 1, 1),
        "decoder.cSE.1.bias": torch.randn(2),
        "decoder.cSE.3.weight": torch.randn(32, 2, 1, 1),
        "decoder.cSE.3.bias": torch.randn(32),
        "decoder.sSE.0.weight": torch.randn(1, 32, 1, 1),
        "decoder.sSE.0.bias": torch.randn(1),
    }
    ours = ww.SCSE(32, combine="add", reduction=16).load_official(theirs)
    assert ours.cSE["fc2"].weight.equal(theirs["decoder.cSE.3.weight"][:, :, 0, 0])
    assert ours.sSE["conv"].weight.equal(theirs["decoder.sSE.0.weight"])
    with pytest.raises(WhatwhereError, match="combine='max' where the checkpoint has 'add'"):
        ww.SCSE(32, reduction=16).load_official(theirs)
    assert ww.SCSE.options_from_shapes({"cSE.fc1.weight": (16, 32)}) == {"reduction": 2}


def test_segmentation_models_computes_the_same():
    theirs = pytest.importorskip("segmentation_models_pytorch").base.modules.SCSEModule(32)
    x = a_map(2, 32, 5, 4).float()
    ours = ww.SCSE(32, combine="add", reduction=16).load_official(theirs.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"combine": "mix"}, "unknown combine"),
        ({"reduction": 0}, "reduction must be a whole number"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(WhatwhereError, match=says):
        ww.SCSE(8, **options)
