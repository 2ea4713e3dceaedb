"""The filter of the GPU backend against its formula in float64; what it calls of PyTorch runs on every device."""

import formulas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from whatwhere.ops.cuda import filter_maps, filter_maps_backward

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def numbers(seed, dtype, *shape):
    """Small multiples of 1/4: exact also where a GPU rounds what it multiplies to 10 bits."""
    random = torch.Generator().manual_seed(seed)
    return (torch.randint(-12, 13, shape, generator=random) / 4).to(DEVICE, dtype)


@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    outputs=st.integers(1, 2),
    k=st.sampled_from([1, 3, 7]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    layouts=st.tuples(*[st.sampled_from([torch.contiguous_format, torch.channels_last])] * 2),
    seed=st.integers(0, 99),
)
@settings(max_examples=50)
def test_the_filter_is_its_formula(shape, outputs, k, dtype, layouts, seed):
    maps = numbers(seed, dtype, *shape).to(memory_format=layouts[0])
    weight = numbers(seed + 1, dtype, outputs, shape[1], k, k).to(memory_format=layouts[1])
    g = numbers(seed + 2, dtype, shape[0], 1, *shape[2:]).expand(-1, outputs, -1, -1)
    exact = [t.double() for t in (g, maps, weight)]
    got = (filter_maps(maps, weight), *filter_maps_backward(g, maps, weight))
    want = (formulas.filter_maps(*exact[1:]), *formulas.filter_maps_backward(*exact))
    for ours, true in zip(got, want, strict=True):
        assert ours.is_contiguous()
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), true, rtol=1e-5, atol=1e-5)
