import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .gates_numpy import CLOSE, GATES, a_map, affine, normalise, pointwise, softmax, trained, weights

CLASSES = {"polarized_p": ww.PolarizedParallel, "polarized_s": ww.PolarizedSequential}


def channel_gate(w, x, deep, form, gate):
    flat = x.reshape(*x.shape[:2], -1)
    q, v = (pointwise(w, x, f"conv_{name}_right").reshape(len(x), -1, flat.shape[2]) for name in "qv")
    z = (v * softmax(q, 2)).sum(2)[:, :, None, None]
    if deep and form == "code":
        z = pointwise(w, z, "conv_up.0")
        z = np.maximum(affine({k: v.reshape(-1) for k, v in w.items()}, normalise(z, (1,)), "conv_up.1"), 0)
        z = pointwise(w, z, "conv_up.3")
    else:
        z = pointwise(w, z, "conv_up")
    return GATES[gate](affine(w, normalise(z, (1,)), "ln") if form == "paper" else z)


def spatial_gate(w, x, deep, form, gate):
    q = pointwise(w, x, "conv_q_left").mean((2, 3))
    v = pointwise(w, x, "conv_v_left").reshape(*q.shape, -1)
    if form == "paper":
        z = (softmax(q, 1)[:, :, None] * v).sum(1)
    elif deep:
        z = (q[:, :, None] * softmax(v, 2)).sum(1)
    else:
        z = softmax((q[:, :, None] * v).sum(1), 1)
    return GATES[gate](z.reshape(len(x), 1, *x.shape[2:]))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize(("channels", "size"), [(16, (5, 4)), (9, (3, 1)), (3, (4, 4)), (1, (2, 3)), (4, (1, 1))])
@pytest.mark.parametrize("name", CLASSES)
def test_the_formula(name, channels, size, form, gate):
    x = a_map(3, channels, *size)
    attention = trained(CLASSES[name](channels, form=form, gate=gate))
    w, u, deep = weights(attention), x.numpy(), name == "polarized_s"
    c = channel_gate(w, u, deep, form, gate)
    if deep:
        want = u * c * spatial_gate(w, u * c, deep, form, gate)
    else:
        want = u * c + u * spatial_gate(w, u, deep, form, gate)
    np.testing.assert_allclose(attention(x).detach(), want, **CLOSE)


@pytest.mark.parametrize("name", CLASSES)
def test_the_codes_spatial_gate_hardly_moves_and_the_papers_does(name):
    x = 3 * a_map(2, 32, 14, 14)
    torch.manual_seed(0)
    spread = {}
    for form in ("code", "paper"):
        attention = CLASSES[name](32, form=form).double()
        z = attention.spatial_logits(x)
        spread[form] = z.std().item()
    assert spread["code"] < 0.1 < spread["paper"]


@pytest.mark.parametrize("name", CLASSES)
def test_the_start(name):
    x = a_map(2, 32, 7, 6).float()
    torch.manual_seed(0)
    official = CLASSES[name](32)
    assert (official(x) / x).mean().item() == pytest.approx(1.0 if name == "polarized_p" else 0.25, abs=0.06)
    stds = [official.get_parameter(f"conv_{n}.weight").std().item() for n in ("v_right", "q_left", "v_left")]
    assert stds == pytest.approx([(2 / 32) ** 0.5] * 3, rel=0.15)  # He-normal, fan-in


@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize("name", CLASSES)
def test_the_identity_start_learns_both_gates(name, form):
    x = a_map(4, 32, 5, 5).float()
    attention = CLASSES[name](32, form=form, identity=True)
    assert attention(x).equal(x)
    (attention(x) * a_map(4, 32, 5, 5, seed=1).float()).sum().backward()
    moved = {n for n, p in attention.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    last = {"polarized_p": "conv_up.weight", "polarized_s": "conv_up.3.weight"}[name]
    assert moved >= ({"ln.weight", "conv_v_left.weight"} if form == "paper" else {last, "gamma"})


def test_below_16_channels_the_codes_layer_norm_is_of_one_value():
    """Then the channel gate of the sequential form is the same for every map."""
    for channels, differ in ((15, False), (24, True)):
        attention = trained(ww.PolarizedSequential(channels))
        first, second = (attention.gates(a_map(1, channels, 4, 4, seed=s)).channel for s in (1, 2))
        assert (not torch.allclose(first, second)) is differ


def test_names_and_widths():
    keys = set(ww.PolarizedSequential(8).state_dict())
    assert {"conv_up.0.bias", "conv_up.1.weight", "conv_up.3.bias", "conv_q_right.weight"} <= keys
    assert "gamma" not in keys
    assert ww.PolarizedSequential(8).state_dict()["conv_up.1.weight"].shape == (1, 1, 1)
    assert sum(p.numel() for p in ww.PolarizedSequential(256).parameters()) == 111_200
    assert sum(p.numel() for p in ww.PolarizedParallel(256).parameters()) == 131_328


@pytest.mark.parametrize("name", CLASSES)
def test_the_names_of_the_copy_load_in_the_papers_form_only(name):
    shapes = {"ch_wq": (1, 8), "ch_wv": (4, 8), "ch_wz": (8, 4), "sp_wq": (4, 8), "sp_wv": (4, 8)}
    theirs = {f"net.{k}.weight": torch.randn(*s, 1, 1) for k, s in shapes.items()}
    theirs |= {f"net.{k}.bias": torch.randn(s[0]) for k, s in shapes.items()}
    theirs |= {"net.ln.weight": torch.randn(8), "net.ln.bias": torch.randn(8)}
    ours = CLASSES[name](8, form="paper").load_official(theirs)
    assert ours.conv_v_left.bias.equal(theirs["net.sp_wv.bias"])
    assert ours.conv_q_right.weight.equal(theirs["net.ch_wq.weight"])
    with pytest.raises(WhatwhereError, match="form='code' where the checkpoint has 'paper'"):
        CLASSES[name](8).load_official(theirs)


@pytest.mark.parametrize("name", CLASSES)
def test_wrong_options(name):
    with pytest.raises(WhatwhereError, match=r"unknown form 'papre'.*did you mean 'paper'"):
        CLASSES[name](8, form="papre")
