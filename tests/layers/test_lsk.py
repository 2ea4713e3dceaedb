import numpy as np
import pytest
import torch
from scipy.special import expit

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .conv_numpy import CLOSE, a_map, convolve, trained, weights

GATES = {"sigmoid": expit, "hard_sigmoid": lambda z: np.clip(z + 3, 0, 6) / 6}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize(
    ("channels", "options", "hidden"),
    [(8, {}, 4), (7, {}, 3), (1, {}, 1), (9, {"reduction": 4, "kernel_size": 3}, 2), (2, {"reduction": 8}, 1)],
)
def test_formula(channels, options, hidden, identity, gate):
    attention = trained(ww.LSK(channels, identity=identity, gate=gate, **options))
    x, w = a_map((2, channels, 7, 6)), weights(attention)
    kernel = options.get("kernel_size", 7)
    assert w["conv_squeeze.weight"].shape == (2, 2, kernel, kernel)
    a = convolve(x.numpy(), w, "conv0", groups=channels)
    b = convolve(a, w, "conv_spatial", dilation=3, groups=channels)
    a, b = convolve(a, w, "conv1"), convolve(b, w, "conv2")
    assert a.shape == b.shape == (2, hidden, 7, 6)
    both = np.concatenate([a, b], 1)
    squeezed = np.stack([both.mean(1), both.max(1)], 1)
    s = GATES[gate](convolve(squeezed, w, "conv_squeeze"))
    want = convolve(a * s[:, :1] + b * s[:, 1:], w, "conv") + identity
    np.testing.assert_allclose(attention.gates(x).full.detach(), want, **CLOSE)
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * want, **CLOSE)


def test_start():
    torch.manual_seed(0)
    attention = ww.LSK(512)
    for name, positions, outputs in (
        ("conv0", 25, 1),
        ("conv_spatial", 49, 1),
        ("conv1", 1, 256),
        ("conv2", 1, 256),
        ("conv_squeeze", 49, 2),
        ("conv", 1, 512),
    ):
        conv = attention.get_submodule(name)
        assert conv.weight.std().item() == pytest.approx((2 / (positions * outputs)) ** 0.5, rel=0.15)
        assert conv.bias.eq(0).all()
    x = torch.randn(2, 512, 5, 5)
    assert ww.LSK(512, identity=True).gates(x).full.eq(1).all()
    assert attention.gates(x).full.min() < 0


def test_official_names_load():
    source = trained(ww.LSK(8))
    tensors = {f"block1.0.attn.spatial_gating_unit.{name}": tensor for name, tensor in source.state_dict().items()}
    x = a_map((2, 8, 7, 7))
    torch.testing.assert_close(ww.LSK(8).double().load_official(tensors)(x), source(x))
    with pytest.raises(WhatwhereError, match="gate='hard_sigmoid'"):
        ww.LSK(8, gate="hard_sigmoid").load_official(tensors)
    found = ww.LSK.options_from_shapes({k: tuple(v.shape) for k, v in source.state_dict().items()})
    assert found == {"reduction": 2, "kernel_size": 7}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 6}, "kernel_size must be odd.*take 5 or 7"),
        ({"reduction": 0}, "reduction must be"),
        ({"gate": "sigmoids"}, "unknown gate 'sigmoids'"),
    ],
    ids=str,
)
def test_wrong_options_raise(options, message):
    with pytest.raises(WhatwhereError, match=message):
        ww.LSK(8, **options)
