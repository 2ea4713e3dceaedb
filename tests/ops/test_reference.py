"""The ops against arithmetic written out again, in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whatwhere import ops

SHAPES = st.tuples(*(st.integers(1, 7) for _ in range(4)))


def a_map(shape, seed=0, dtype=torch.float64, channels_last=False):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return x.to(memory_format=torch.channels_last) if channels_last else x


@given(SHAPES, st.booleans(), st.booleans())
@settings(deadline=None, max_examples=40)
def test_squeeze_space_is_its_formula(shape, last, gated):
    x = a_map(shape, channels_last=last)
    spatial = a_map((shape[0], 1, *shape[2:]), 1).sigmoid() if gated else None
    u = (x.numpy() * (spatial.numpy() if gated else 1)).reshape(*shape[:2], -1)
    want = np.stack([u.mean(-1), u.max(-1), np.sqrt((u**2).sum(-1)), np.log(np.exp(u).sum(-1))], 1)
    got = ops.squeeze_space(x, ("avg", "max", "lp", "lse"), spatial)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@given(SHAPES, st.booleans(), st.booleans())
@settings(deadline=None, max_examples=40)
def test_squeeze_channels_is_its_formula(shape, last, gated):
    x = a_map(shape, channels_last=last)
    channel = a_map((*shape[:2], 1, 1), 1).sigmoid() if gated else None
    u = x.numpy() * (channel.numpy() if gated else 1)
    want = np.stack([u.max(1), u.mean(1)], 1)
    np.testing.assert_allclose(ops.squeeze_channels(x, ("max", "avg"), channel), want, rtol=1e-12, atol=1e-12)


@given(SHAPES, st.tuples(*(st.booleans() for _ in range(5))))
@settings(deadline=None, max_examples=60)
def test_apply_gates_is_its_formula(shape, present):
    x = a_map(shape)
    shapes = ((*shape[:2], 1, 1), (shape[0], 1, *shape[2:]), shape, shape)
    channel, spatial, full, residual = (
        a_map(s, i + 1) if p else None for i, (s, p) in enumerate(zip(shapes, present, strict=False))
    )
    want = x.numpy()
    for gate in (channel, spatial, full):
        want = want * (1 if gate is None else gate.numpy())
    want = want + (0 if residual is None else residual.numpy())
    want = np.maximum(want, 0) if present[4] else want
    np.testing.assert_allclose(
        ops.apply_gates(x, channel, spatial, full, residual, present[4]), want, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_of_the_map_is_kept(dtype):
    x = a_map((2, 3, 4, 5), dtype=dtype)
    assert ops.squeeze_space(x, ("avg", "max")).dtype == dtype
    assert ops.squeeze_channels(x, ("avg", "max")).dtype == dtype
    assert ops.apply_gates(x, torch.ones(2, 3, 1, 1)).dtype == dtype


def test_no_images_is_no_error():
    x = torch.zeros(0, 3, 4, 5)
    assert ops.squeeze_space(x, ("avg", "max", "lp", "lse")).shape == (0, 4, 3)
    assert ops.squeeze_channels(x, ("avg", "max")).shape == (0, 2, 4, 5)
    assert ops.apply_gates(x, torch.ones(0, 3, 1, 1)).shape == x.shape


def test_values_that_are_not_finite_come_through():
    x = torch.zeros(1, 3, 2, 2)
    x[0, 0, 0, 0], x[0, 1, 0, 0] = math.nan, math.inf
    squeezed = ops.squeeze_space(x, ("avg", "max"))[0]
    assert squeezed[:, 0].isnan().all()
    assert (squeezed[:, 1] == math.inf).all()
    assert (squeezed[:, 2] == 0).all()
    assert ops.squeeze_channels(x, ("max",))[0, 0, 0, 0].isnan()


def test_a_tie_gives_its_gradient_to_one_place():
    x = torch.ones(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    ops.squeeze_space(x, ("max",)).sum().backward()
    assert sorted(x.grad.flatten().tolist()) == [0, 0, 0, 0, 0, 0, 1, 1]
    x.grad = None
    ops.squeeze_channels(x, ("max",)).sum().backward()
    assert x.grad.sum(1).eq(1).all()
    assert x.grad.max() == 1


def test_lp_has_a_finite_gradient_at_zero():
    x = torch.zeros(1, 1, 2, 2, requires_grad=True)
    ops.squeeze_space(x, ("lp",)).sum().backward()
    assert x.grad.eq(0).all()


@pytest.mark.parametrize("pools", [("avg", "max", "lp", "lse")])
def test_gradients(pools):
    x = a_map((2, 3, 3, 2)).requires_grad_()
    c, s, f, r = (
        a_map(shape, i).requires_grad_()
        for i, shape in enumerate(((2, 3, 1, 1), (2, 1, 3, 2), (2, 3, 3, 2), (2, 3, 3, 2)), 1)
    )
    assert torch.autograd.gradcheck(lambda x, s: ops.squeeze_space(x, pools, s), (x, s))
    assert torch.autograd.gradcheck(lambda x, c: ops.squeeze_channels(x, ("max", "avg"), c), (x, c))
    assert torch.autograd.gradcheck(lambda *a: ops.apply_gates(*a, relu=True), (x, c, s, f, r))
    assert torch.autograd.gradgradcheck(lambda x, s: ops.squeeze_space(x, pools, s), (x, s))
