"""Attentions that take the place of a convolution, beyond the contract: strides, and no identity."""

import math

import pytest
import torch

import whatwhere as ww
from whatwhere.errors import WhatwhereError
from whatwhere.layers import entry

C = 24
ALL = pytest.mark.parametrize("name", [name for name in ww.names() if "stride" in entry(name).options])


def test_there_are_some():
    names = {name for name in ww.names() if entry(name).kind == "replacing"}
    assert {"sk", "splat", "epsa", "parnet"} <= {name for name in names if "stride" in entry(name).options}


@ALL
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 5), (1, 1)])
@pytest.mark.parametrize("training", [True, False])
def test_a_stride_makes_the_map_smaller(name, stride, size, training):
    torch.manual_seed(0)
    attention = ww.create(name, C, stride=stride).train(training)
    x = torch.randn(2, C, *size).to(memory_format=torch.channels_last).requires_grad_()
    y = attention(x)
    want = torch.nn.Conv2d(C, C, 3, stride, padding=1)(x).shape
    assert y.shape == want == (2, C, *(math.ceil(side / stride) for side in size))
    assert y.is_contiguous(memory_format=torch.channels_last)
    y.square().sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in attention.parameters())
    assert attention(torch.empty(0, C, *size)).shape == (0, *want[1:])


@ALL
def test_a_stride_compiles_and_exports(name):
    torch._dynamo.reset()
    torch.manual_seed(0)
    attention = ww.create(name, C, stride=2).eval()
    x = torch.randn(3, C, 9, 7)
    torch.testing.assert_close(torch.compile(attention, fullgraph=True, backend="aot_eager")(x), attention(x))
    sides = {2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)}
    program = torch.export.export(attention, (x,), dynamic_shapes=({0: torch.export.Dim("batch"), **sides},))
    x = torch.randn(2, C, 8, 12)
    torch.testing.assert_close(program.module()(x), attention(x))


@ALL
def test_identity_is_without_effect(name):
    made = []
    for identity in (False, True):
        torch.manual_seed(0)
        made.append(ww.create(name, C, identity=identity).eval())
    x = torch.randn(2, C, 6, 6)
    assert made[0](x).equal(made[1](x))
    assert not entry(name).exact_identity


@ALL
@pytest.mark.parametrize("stride", [0, -1, 1.5, True, "2"], ids=str)
def test_a_wrong_stride_raises(name, stride):
    with pytest.raises(WhatwhereError, match="stride must be a whole number of at least 1"):
        ww.create(name, C, stride=stride)
