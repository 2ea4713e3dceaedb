"""CAA: its formula again in NumPy, in both forms, and its names elsewhere."""

import numpy as np
import pytest
import torch
from scipy.special import expit

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .lines_numpy import CLOSE, a_map, batch_norm, convolve, gate, like_torch, randomised, statistics_follow


def mean_of_7x7(x):
    """Means around every place, with zeros outside the map that are counted."""
    padded = np.pad(x, ((0, 0), (0, 0), (3, 3), (3, 3)))
    h, w = x.shape[2:]
    return sum(padded[:, :, i : i + h, j : j + w] for i in range(7) for j in range(7)) / 49


def numpy_gates(w, x, options, training):
    """The gates, and what the first normalisation takes."""

    def dense(name, t):
        z = convolve(w, f"{name}.conv", t)
        if options.get("form") == "bare":
            return z, z
        normalised = batch_norm(w, f"{name}.bn", z, training, eps=1e-3)
        return normalised * expit(normalised), z

    u, first = dense("conv1", mean_of_7x7(x))
    u = convolve(w, "v_conv.conv", convolve(w, "h_conv.conv", u, u.shape[1]), u.shape[1])
    return gate(dense("conv2", u)[0], options), first


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"h_kernel_size": 3, "v_kernel_size": 5},
        {"form": "bare"},
        {"form": "bare", "identity": True, "h_kernel_size": 13, "v_kernel_size": 13},
        {"gate": "hard_sigmoid"},
        {"identity": True},
    ],
    ids=str,
)
def test_formula(options, training):
    x = a_map(3, 7, 6, 9)
    attention, w = randomised(ww.CAA(7, **options), training)
    want, first = numpy_gates(w, x.numpy(), options, training)
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * want, **CLOSE)
    if training and "form" not in options:
        statistics_follow(attention, w, "conv1.bn", first, 0.03)


def test_one_value_takes_the_running_statistics():
    x = a_map(1, 5, 1, 1)
    attention, w = randomised(ww.CAA(5), training=True)
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * numpy_gates(w, x.numpy(), {}, False)[0], **CLOSE)


@pytest.mark.parametrize("form", ["plug-in", "bare"])
def test_the_official_start(form):
    torch.manual_seed(0)
    attention = ww.CAA(128, form=form)
    convolutions = [attention.conv1.conv, attention.h_conv.conv, attention.v_conv.conv, attention.conv2.conv]
    assert all(like_torch(conv) for conv in convolutions)
    assert all(conv.bias is None or conv.bias.eq(0).all() for conv in convolutions)
    assert (attention.conv1.conv.bias is None) is (form == "plug-in")
    assert attention.gates(torch.randn(4, 128, 9, 9)).full.mean().item() == pytest.approx(0.5, abs=0.1)


def test_gates_of_the_plug_in_form_have_a_least_value():
    """SiLU before the gate function."""
    gates = randomised(ww.CAA(16))[0].gates(20 * a_map(4, 16, 9, 9)).full
    assert 0.43 < gates.min() < 0.44
    assert randomised(ww.CAA(16, form="bare"))[0].gates(20 * a_map(4, 16, 9, 9)).full.min() < 0.1


@pytest.mark.parametrize("form", ["plug-in", "bare"])
def test_it_learns_from_the_identity(form):
    attention = ww.CAA(6, identity=True, form=form)
    (attention(torch.randn(2, 6, 5, 4)) * torch.rand(2, 6, 5, 4)).sum().backward()
    last = attention.conv2.conv if form == "bare" else attention.conv2.bn
    assert last.weight.grad.abs().max() > 0


@pytest.mark.parametrize("form", ["plug-in", "bare"])
def test_the_official_names_with_a_prefix(form):
    trained = randomised(ww.CAA(8, form=form))[0].float()
    state = {f"stages.1.blocks.0.block.caa_factor.{key}": value for key, value in trained.state_dict().items()}
    torch.testing.assert_close(ww.CAA(8, form=form).load_official(state).state_dict(), trained.state_dict())
    other = "bare" if form == "plug-in" else "plug-in"
    with pytest.raises(WhatwhereError, match="does not fit"):
        ww.CAA(8, form=other).load_official(state)


def test_names_of_yolo_code():
    trained = randomised(ww.CAA(8))[0].float()
    state = {
        key.replace("h_conv.conv", "h_conv").replace("v_conv.conv", "v_conv"): value
        for key, value in trained.state_dict().items()
    }
    assert "h_conv.weight" in state
    torch.testing.assert_close(ww.CAA(8).load_official(state).state_dict(), trained.state_dict())


@pytest.mark.parametrize("options", [{}, {"h_kernel_size": 3, "v_kernel_size": 5, "form": "bare"}], ids=str)
def test_options_that_shapes_tell(options):
    attention = ww.CAA(8, **options)
    found = attention.options_from_shapes({k: tuple(v.shape) for k, v in attention.state_dict().items()})
    assert found == {"h_kernel_size": 11, "v_kernel_size": 11, "form": "plug-in", **options}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"h_kernel_size": 10}, "h_kernel_size must be odd.*take 9 or 11"),
        ({"v_kernel_size": 10}, "v_kernel_size must be odd.*take 9 or 11"),
        ({"form": "plugin"}, "unknown form 'plugin'.*plug-in"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(WhatwhereError, match=message):
        ww.CAA(8, **options)
