import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .conv_numpy import CLOSE, a_map, convolve, trained, weights

C = 6
IDENTITY = pytest.mark.parametrize("identity", [False, True])


@IDENTITY
@pytest.mark.parametrize(
    ("options", "sizes"), [({}, (5, 7, 3)), ({"kernel_size": 3, "dilated_kernel_size": 5, "dilation": 2}, (3, 5, 2))]
)
@pytest.mark.parametrize("size", [(9, 8), (2, 5), (1, 1)])
def test_lka(options, sizes, size, identity):
    attention = trained(ww.LKA(C, identity=identity, **options))
    x, w = a_map((2, C, *size)), weights(attention)
    assert w["conv0.weight"].shape == (C, 1, sizes[0], sizes[0])
    assert w["conv_spatial.weight"].shape == (C, 1, sizes[1], sizes[1])
    z = convolve(convolve(x.numpy(), w, "conv0", groups=C), w, "conv_spatial", dilation=sizes[2], groups=C)
    want = convolve(z, w, "conv1") + identity
    np.testing.assert_allclose(attention.gates(x).full.detach(), want, **CLOSE)
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * want, **CLOSE)


SIZES = [(7, 3, 3, 2), (11, 3, 5, 2), (23, 5, 7, 3), (35, 5, 11, 3), (41, 5, 13, 3), (53, 5, 17, 3)]


@IDENTITY
@pytest.mark.parametrize(("kernel_size", "first", "second", "dilation"), SIZES)
def test_lska(kernel_size, first, second, dilation, identity):
    attention = trained(ww.LSKA(C, kernel_size=kernel_size, identity=identity))
    x, w = a_map((2, C, 9, 8)), weights(attention)
    z = x.numpy()
    for name, shape, spread in (
        ("conv0h", (1, first), 1),
        ("conv0v", (first, 1), 1),
        ("conv_spatial_h", (1, second), dilation),
        ("conv_spatial_v", (second, 1), dilation),
    ):
        assert w[f"{name}.weight"].shape == (C, 1, *shape)
        z = convolve(z, w, name, dilation=spread, groups=C)
    want = convolve(z, w, "conv1") + identity
    np.testing.assert_allclose(attention.gates(x).full.detach(), want, **CLOSE)
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * want, **CLOSE)
    found = ww.LSKA.options_from_shapes({k: v.shape for k, v in w.items()})
    assert found == {"kernel_size": kernel_size}


def test_the_default_is_the_official_networks():
    assert ww.LSKA(C).conv_spatial_h.weight.shape == (C, 1, 1, 3)


@pytest.mark.parametrize("name", ["lka", "lska"])
def test_start(name):
    torch.manual_seed(0)
    attention = ww.create(name, 512)
    for conv in attention.convolutions():
        positions = conv.kernel_size[0] * conv.kernel_size[1]
        want = (2 / (positions * (512 if conv.groups == 1 else 1))) ** 0.5
        assert conv.weight.std().item() == pytest.approx(want, rel=0.08)
        assert conv.bias.eq(0).all()
    assert len(attention.convolutions()) == {"lka": 3, "lska": 5}[name]
    x = torch.randn(2, 512, 5, 5)
    assert ww.create(name, 512, identity=True).gates(x).full.eq(1).all()
    assert attention.gates(x).full.min() < 0


@pytest.mark.parametrize("names", [("conv0", "conv_spatial"), ("DW_conv", "DW_D_conv")])
def test_every_spelling_loads(names):
    source = trained(ww.LKA(C))
    tensors = {}
    for key, tensor in source.state_dict().items():
        part, leaf = key.split(".")
        theirs = {"conv0": names[0], "conv_spatial": names[1], "conv1": "conv1"}[part]
        tensors[f"block1.0.attn.spatial_gating_unit.{theirs}.{leaf}"] = tensor
    x = a_map((2, C, 7, 7))
    torch.testing.assert_close(ww.LKA(C).double().load_official(tensors)(x), source(x))
    with pytest.raises(WhatwhereError, match="identity=True"):
        ww.LKA(C, identity=True).load_official(tensors)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lka", {"kernel_size": 4}, "kernel_size must be odd.*take 3 or 5"),
        ("lka", {"dilated_kernel_size": 6}, "dilated_kernel_size must be odd"),
        ("lka", {"dilation": 0}, "dilation must be"),
        ("lska", {"kernel_size": 21}, "one of 7, 11, 23, 35, 41, 53, got 21: take 23"),
        ("lska", {"kernel_size": 5}, "take 7"),
        ("lska", {"kernel_size": "7"}, "whole number"),
    ],
    ids=str,
)
def test_wrong_options_raise(name, options, message):
    with pytest.raises(WhatwhereError, match=message):
        ww.create(name, C, **options)
