import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .gates_numpy import CLOSE, GATES, a_map, batch_norm, pointwise, trained, weights


def convolve(w, z, name, mode):
    kernel = w[f"{name}.weight"]
    half = kernel.shape[-1] // 2
    padded = np.pad(z, ((0, 0), (0, 0), (half, half), (half, half)), mode=mode)
    maps = [
        [sum(correlate2d(m, f, "valid") for m, f in zip(image, row, strict=True)) for row in kernel] for image in padded
    ]
    return np.array(maps) + w[f"{name}.bias"].reshape(1, -1, 1, 1)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("channels", "size", "hidden", "options"),
    [
        (8, (9, 5), 2, {}),
        (6, (4, 4), 3, {"reduction": 2, "padding": "zeros", "kernel_size": 3, "gate": "hard_sigmoid"}),
        (5, (3, 2), 1, {"channel_gate": True}),
        (2, (3, 3), 1, {"reduction": 16, "kernel_size": 1}),
    ],
)
def test_the_formula(channels, size, hidden, options, training):
    x = a_map(3, channels, *size)
    attention = trained(ww.GAM(channels, **options)).train(training)
    assert attention.conv1.out_channels == attention.linear1.out_features == hidden
    w, gate = weights(attention), GATES[options.get("gate", "sigmoid")]
    a = pointwise(w, np.maximum(pointwise(w, x.numpy(), "linear1"), 0), "linear2")
    a = gate(a) if options.get("channel_gate") else a
    mode = "constant" if options.get("padding") == "zeros" else "edge"
    z = np.maximum(batch_norm(w, convolve(w, x.numpy() * a, "conv1", mode), "norm1", training), 0)
    s = gate(batch_norm(w, convolve(w, z, "conv2", mode), "norm2", training))
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * a * s, **CLOSE)


@pytest.mark.parametrize("channel_gate", [False, True])
def test_the_start(channel_gate):
    x = a_map(2, 16, 7, 7).float()
    torch.manual_seed(0)
    mean = (ww.GAM(16, channel_gate=channel_gate).gates(x).full).mean().item()
    assert mean == pytest.approx(0.25 if channel_gate else 0, abs=0.2)
    same = ww.GAM(16, channel_gate=channel_gate, identity=True)
    assert same(x).equal(x)
    (same(x) * a_map(2, 16, 7, 7, seed=1).float()).sum().backward()
    assert same.linear2.weight.grad.abs().max() > 0
    assert same.norm2.weight.grad.abs().max() > 0


def test_the_identity_form_adds_1_to_the_factor():
    plain, same = trained(ww.GAM(8)), ww.GAM(8, identity=True)
    same.load_state_dict(plain.state_dict())
    x = a_map(1, 8, 4, 4)
    torch.testing.assert_close(same.double().factors(x), plain.factors(x) + 1)


def test_the_names_of_the_copies():
    values = ww.GAM(8, padding="zeros").state_dict()
    new = ("channel_attention.0", "channel_attention.2", *(f"spatial_attention.{i}" for i in (0, 1, 3, 4)))
    names = dict(zip(("linear1", "linear2", "conv1", "norm1", "conv2", "norm2"), new, strict=True))
    theirs = {f"m.{names[k.split('.')[0]]}.{k.split('.')[1]}": torch.rand(v.shape) for k, v in values.items()}
    ours = ww.GAM(8, padding="zeros", channel_gate=True).load_official(theirs)
    assert ours.conv2.weight.equal(theirs["m.spatial_attention.3.weight"])
    assert ours.norm1.running_mean.equal(theirs["m.spatial_attention.1.running_mean"])
    with pytest.raises(WhatwhereError, match="padding='replicate' where the checkpoint has 'zeros'"):
        ww.GAM(8).load_official(theirs)
    shapes = {k: tuple(v.shape) for k, v in ww.GAM(12, reduction=3, kernel_size=5).state_dict().items()}
    assert ww.GAM.options_from_shapes(shapes) == {"reduction": 3, "kernel_size": 5}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"padding": "zeroes"}, "did you mean 'zeros'"),
        ({"kernel_size": 6}, "take 5 or 7"),
        ({"reduction": 0}, "reduction must be"),
        ({"channel_gate": "sigmoid"}, "channel_gate must be True or False"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(WhatwhereError, match=says):
        ww.GAM(8, **options)
