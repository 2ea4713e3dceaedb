"""The global context block against its formula, and what its options do."""

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .residual_numpy import some_map
from .test_formulas import HARD, close, trained, weights


def transform(w, name, c):
    """Context (N, C) → (N, C)."""
    z = c @ w[f"{name}.0.weight"][:, :, 0, 0].T + w[f"{name}.0.bias"]
    z = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + 1e-5)
    z = np.maximum(z * w[f"{name}.1.weight"].ravel() + w[f"{name}.1.bias"].ravel(), 0)
    return z @ w[f"{name}.3.weight"][:, :, 0, 0].T + w[f"{name}.3.bias"]


def by_hand(attention, u, gate=expit):
    w, rows = weights(attention), u.reshape(*u.shape[:2], -1)
    if attention.pooling == "attention":
        scores = np.einsum("ncp,c->np", rows, w["conv_mask.weight"].ravel()) + w["conv_mask.bias"]
        context = np.einsum("ncp,np->nc", rows, softmax(scores, 1))
    else:
        context = rows.mean(2)
    y = u
    if attention.fusion in ("mul", "both"):
        y = y * gate(transform(w, "channel_mul_conv", context))[:, :, None, None]
    if attention.fusion in ("add", "both"):
        y = y + transform(w, "channel_add_conv", context)[:, :, None, None]
    return y


@pytest.mark.parametrize("pooling", ["attention", "avg"])
@pytest.mark.parametrize("fusion", ["add", "mul", "both"])
@pytest.mark.parametrize(("c", "r", "h", "w"), [(12, 3, 6, 5), (37, 16, 7, 3), (10, 4, 1, 1)])
def test_formula(pooling, fusion, c, r, h, w):
    x = some_map(3, c, h, w)
    attention = trained(ww.GlobalContext(c, reduction=r, pooling=pooling, fusion=fusion))
    np.testing.assert_allclose(attention(x).detach(), by_hand(attention, x.numpy()), **close)


@pytest.mark.parametrize("gate", HARD)
def test_gate_functions(gate):
    x = some_map(2, 12, 4, 4)
    attention = trained(ww.GlobalContext(12, hidden=5, fusion="both", gate=gate))
    assert attention.channel_mul_conv[0].weight.shape[0] == 5
    np.testing.assert_allclose(attention(x).detach(), by_hand(attention, x.numpy(), HARD[gate]), **close)
    twice = ww.GlobalContext(12, hidden=5, fusion="both", gate=gate, identity=True).double()
    twice.load_state_dict(attention.state_dict())
    want = by_hand(attention, x.numpy(), lambda z: 2 * HARD[gate](z))
    np.testing.assert_allclose(twice(x).detach(), want, **close)


@pytest.mark.parametrize(("fusion", "factor"), [("add", 1), ("mul", 0.5), ("both", 0.5)])
def test_the_official_start(fusion, factor):
    x = some_map(2, 64, 5, 5).float()
    attention = ww.GlobalContext(64, fusion=fusion)
    assert attention(x).equal(factor * x)
    assert attention.conv_mask.bias.eq(0).all()


@pytest.mark.parametrize("fusion", ["add", "mul", "both"])
def test_the_identity_start_learns(fusion):
    x = some_map(2, 64, 5, 5).float()
    attention = ww.GlobalContext(64, fusion=fusion, identity=True)
    assert attention(x).equal(x)
    (attention(x) * some_map(2, 64, 5, 5, seed=1)).sum().backward()
    for name in ("channel_add_conv", "channel_mul_conv"):
        assert getattr(attention, name) is None or getattr(attention, name)[3].weight.grad.abs().max() > 0


def test_the_mask_starts_he_normal():
    """Variance 2/C; five deviations of an estimate from so many values are ten per cent."""
    torch.manual_seed(0)
    values = torch.cat([ww.GlobalContext(500).conv_mask.weight.flatten() for _ in range(10)])
    assert abs(values.var().item() * 500 / 2 - 1) < 0.1
    assert values.abs().max() > 2.5 * values.std()  # not uniform


def test_widths():
    """C // r, and 1 where that is 0; then the transform of any map is the same, by its layer normalisation."""
    widths = {c: ww.GlobalContext(c).hidden for c in (1, 8, 16, 31, 32, 256)}
    assert widths == {1: 1, 8: 1, 16: 1, 31: 1, 32: 2, 256: 16}
    attention, (one, other) = trained(ww.GlobalContext(8)), some_map(2, 1, 8, 4, 4)
    torch.testing.assert_close(attention(one) - one, attention(other) - other)
    assert (attention(one) - one).abs().max() > 0.1
    assert sum(p.numel() for p in ww.GlobalContext(256).parameters()) == 8753


@pytest.mark.parametrize("pooling", ["attention", "avg"])
@pytest.mark.parametrize("fusion", ["add", "mul", "both"])
def test_checkpoints_tell_their_options(pooling, fusion):
    torch.manual_seed(3)
    made = trained(ww.GlobalContext(64, reduction=4, pooling=pooling, fusion=fusion)).float()
    shapes = {key: tuple(value.shape) for key, value in made.state_dict().items()}
    options = ww.GlobalContext.options_from_shapes(shapes)
    assert options == {"reduction": 4, "pooling": pooling, "fusion": fusion}
    state = {f"layer3.0.context_block.{key}": value for key, value in made.state_dict().items()}
    x = some_map(2, 64, 4, 4).float()
    assert ww.GlobalContext(64, **options).load_official(state)(x).equal(made(x))
    assert ww.GlobalContext.options_from_shapes({}) == {}


def test_only_a_gate_has_an_identity_form():
    """With ``add``, identity=True is the same formula, and loads the same checkpoints."""
    state = ww.GlobalContext(32).state_dict()
    ww.GlobalContext(32, identity=True).load_official(state)
    state = ww.GlobalContext(32, fusion="both").state_dict()
    with pytest.raises(WhatwhereError, match="identity=True"):
        ww.GlobalContext(32, fusion="both", identity=True).load_official(state)
    with pytest.raises(WhatwhereError, match="gate='hard_sigmoid'"):
        ww.GlobalContext(32, fusion="both", gate="hard_sigmoid").load_official(state)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pooling": "avgg"}, "unknown pooling 'avgg': one of attention, avg"),
        ({"fusion": "channel_add"}, "unknown fusion"),
        ({"reduction": 0}, "reduction must be"),
        ({"hidden": 0}, "hidden must be"),
        ({"gate": "tanh"}, "unknown gate"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(WhatwhereError, match=says):
        ww.GlobalContext(16, **options)
