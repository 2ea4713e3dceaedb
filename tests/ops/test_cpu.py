"""Every move of the CPU backend against its formula in float64: shapes, dtypes, layouts, ties, NaN, infinities,
threads.
"""

import math
import os
import subprocess
import sys
import threading

import formulas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from whatwhere.ops import cpu

SHAPES = st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
LARGE = [(2, 130, 17, 16), (1, 64, 33, 31), (1, 300, 7, 7), (9, 16, 4, 4)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
STEP = {
    torch.float32: 2e-6,
    torch.float64: 1e-14,
    torch.bfloat16: 8e-3,
    torch.float16: 1e-3,
}  # half a unit in the last place, or a few


class Case:
    """Everything a move may be given for one shape, in a dtype and layout, drawn from a seed."""

    def __init__(self, shape, dtype, last, seed=0):
        self.generator = torch.Generator().manual_seed(seed)
        n, c, h, w = shape
        self.last, self.dtype = last, dtype
        self.small = torch.float64 if dtype == torch.float64 else torch.float32
        self.x, self.g, self.y, self.residual = (self.map(shape) for _ in range(4))
        self.shift, self.sign = self.number(c), self.number(c).sign()
        self.scale, self.bias, self.spatial = self.number(n, c), self.number(n, c), self.number(n, 1, h, w)
        self.channels, self.spots = self.whole(c, n, h, w), self.whole(h * w, n, c)
        self.lines, self.points = self.number(n, 2, h, w), self.number(n, 3, c)

    def weight(self, k, outputs=1, inputs=2):
        return self.number(outputs, inputs, k, k)

    def number(self, *shape):
        return torch.randn(shape, generator=self.generator).to(self.small)

    def whole(self, below, *shape):
        return torch.randint(0, below, shape, generator=self.generator).to(self.small)

    def map(self, shape):
        x = torch.randn(shape, generator=self.generator).to(self.dtype)
        return x.contiguous(memory_format=torch.channels_last) if self.last else x


def compare(name, *args, small=False):
    """A move and its formula on the same arguments: maps agree to their dtype's step, small tensors to float32's."""
    got, want = getattr(cpu, name)(*args), getattr(formulas, name)(*(wide(a) for a in args))
    for a, b in zip(*((t,) if torch.is_tensor(t) else t for t in (got, want)), strict=True):
        assert a.shape == b.shape
        step = STEP[a.dtype]
        terms = max(args[0].shape[1], args[0].shape[2] * args[0].shape[3], 1)
        torch.testing.assert_close(a.double(), b, rtol=step * 2, atol=step * 4 * math.sqrt(terms), equal_nan=True)
        if name in ("apply_gates", "gather"):
            assert a.stride() == torch.empty_like(args[0]).stride()
    return got


def wide(value):
    return value.double() if torch.is_tensor(value) else value


def check_all(case, some):
    """All six moves; ``some`` says which of the optional arguments are there."""
    shift, sign, scale, bias, spatial, residual = (
        getattr(case, name) if there else None
        for name, there in zip(("shift", "sign", "scale", "bias", "spatial", "residual"), some, strict=True)
    )
    compare("squeeze_space", case.x, shift, sign, 3 if some[0] else 2, True)
    compare("squeeze_space", case.x, shift, None, 3 if some[0] else 1, False)
    compare("squeeze_channels", case.x, shift, scale, bias)
    compare("apply_gates", case.x, shift, scale, bias, spatial, residual, some[1])
    y = case.y if some[1] else None
    masked, sums, place = cpu.apply_gates_backward(case.g, case.x, y, shift, scale, bias, spatial)
    want = formulas.apply_gates_backward(*map(wide, (case.g, case.x, y, shift, scale, bias, spatial)))
    step = STEP[case.small] * 8 * math.sqrt(max(case.x[0].numel() if len(case.x) else 1, 1))
    torch.testing.assert_close(masked.double(), want[0], rtol=0, atol=0)
    torch.testing.assert_close(sums[:, 0].double(), want[1][:, 0], rtol=step, atol=step)
    if bias is not None:  # without a bias nobody asks for its gradient
        torch.testing.assert_close(sums[:, 1].double(), want[1][:, 1], rtol=step, atol=step)
    torch.testing.assert_close(place.double(), want[2], rtol=step, atol=step)
    compare("squeeze_channels_backward", case.x, shift, case.lines, case.channels)
    lines = (case.lines, case.channels) if some[2] else (None, None)
    points = (case.points if some[5] else case.points[:, :2].contiguous(), case.spots) if some[3] else (None, None)
    points = (case.points[:, :1].contiguous(), None) if some[3] and some[0] and not some[5] else points
    compare("gather", case.x, case.g if some[4] else None, shift, scale, spatial, *lines, *points)


@given(SHAPES, st.sampled_from(DTYPES), st.booleans(), st.tuples(*[st.booleans()] * 6), st.integers(0, 9))
@settings(deadline=None, max_examples=150)
def test_moves_are_their_formulas(shape, dtype, last, some, seed):
    check_all(Case(shape, dtype, last, seed), some)


@pytest.mark.parametrize("shape", LARGE, ids=str)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_moves_on_larger_maps(shape, last, dtype):
    for some in ((True,) * 6, (False,) * 6):
        check_all(Case(shape, dtype, last), some)


@given(
    st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 20), st.integers(1, 40)),
    st.sampled_from([1, 3, 5, 7, 9]),
    st.integers(1, 2),
    st.sampled_from([torch.float32, torch.float64]),
)
@settings(deadline=None, max_examples=60)
def test_the_filter_is_a_convolution(shape, k, outputs, dtype):
    case = Case(shape, dtype, False)
    weight, g = case.weight(k, outputs, shape[1]), case.number(shape[0], outputs, *shape[2:])
    compare("filter_maps", case.x, weight)
    got = cpu.filter_maps_backward(g, case.x, weight)
    want = formulas.filter_maps_backward(*map(wide, (g, case.x, weight)))
    for a, b in zip(got, want, strict=True):
        step = STEP[dtype] * 8 * math.sqrt(max(case.x.numel(), 1))
        torch.testing.assert_close(a.double(), b, rtol=step, atol=step)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [(3, 5, 3, 5), (2, 37, 8, 9)], ids=str)
def test_in_a_tie_the_first_wins(last, size):
    x = torch.randint(0, 3, size, generator=torch.Generator().manual_seed(0)).float()
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    assert cpu.squeeze_space(x, None, None, 2, True)[1].equal(x.flatten(2).max(2).indices.float())
    assert cpu.squeeze_channels(x, None, None, None)[1].equal(x.max(1).indices.float())


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_that_are_not_finite(last, bad, dtype):
    case = Case((2, 37, 8, 9), dtype, last)
    for spot in ((0, 0, 0, 0), (0, 36, 7, 8), (1, 5, 3, 3), (1, 20, 3, 3), (1, 5, 6, 1)):
        case.x[spot] = bad
    compare("squeeze_space", case.x, None, None, 3, True)
    compare("squeeze_channels", case.x, None, case.scale, None)
    compare("apply_gates", case.x, None, case.scale, None, case.spatial, case.residual, True)
    case.x[0] = bad
    compare("squeeze_space", case.x, None, None, 2, True)
    compare("squeeze_channels", case.x, None, None, None)


@pytest.mark.parametrize("last", [False, True])
def test_a_masked_gradient_lets_nan_through_as_torch_does(last):
    case = Case((1, 20, 5, 5), torch.float32, last)
    case.y[0, 3], case.y[0, 4], case.y[0, 5] = math.nan, 0.0, -0.0
    masked = cpu.apply_gates_backward(case.g, case.x, case.y, None, case.scale, None, None)[0]
    want = torch.ops.aten.threshold_backward(case.g, case.y, 0)
    assert masked.equal(want)


@pytest.mark.parametrize("last", [False, True])
def test_results_do_not_depend_on_the_number_of_threads(last):
    case = Case((3, 96, 28, 28), torch.float32, last)
    found, weight = [], case.weight(7)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(
                [
                    *cpu.squeeze_space(case.x, case.shift, None, 3, True),
                    *cpu.squeeze_channels(case.x, None, case.scale, case.bias),
                    cpu.apply_gates(case.x, None, case.scale, None, case.spatial, case.residual, True),
                    *cpu.apply_gates_backward(case.g, case.x, case.y, None, case.scale, case.bias, case.spatial),
                    cpu.squeeze_channels_backward(case.x, None, case.lines, case.channels),
                    cpu.gather(
                        case.x,
                        case.g,
                        None,
                        case.scale,
                        case.spatial,
                        case.lines,
                        case.channels,
                        case.points,
                        case.spots,
                    ),
                    *cpu.filter_maps_backward(case.lines[:, :1], case.lines, weight),
                ]
            )
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(a.equal(b) for a, b in zip(found[0], other, strict=True))


def test_several_python_threads_at_once():
    cases = [Case((2, 64, 28, 28), torch.float32, i % 2 == 0, i) for i in range(4)]
    wants = [cpu.squeeze_space(c.x, None, None, 3, True)[0] for c in cases]
    wrong = []

    def work(case, want):
        for _ in range(30):
            if not cpu.squeeze_space(case.x, None, None, 3, True)[0].equal(want):
                wrong.append(case)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(cases, wants, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


FORK = """
import os, sys, torch
from whatwhere.ops import cpu
torch.set_num_threads(2)
x = torch.randn(4, 64, 56, 56)
before = cpu.squeeze_space(x, None, None, 3, True)[0]
child = os.fork()
if child == 0:
    same = cpu.squeeze_space(x, None, None, 3, True)[0].equal(before)
    os._exit(0 if same else 1)
status = os.waitpid(child, 0)[1]
assert cpu.squeeze_space(x, None, None, 3, True)[0].equal(before)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_after_first_use_works():
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], timeout=120, env=environment).returncode == 0


class Dataset(torch.utils.data.Dataset):
    """A data set whose workers use the backend."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        x = torch.randn(1, 64, 32, 32, generator=torch.Generator().manual_seed(index))
        return cpu.squeeze_space(x, None, None, 3, True)[0][0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_workers_of_a_data_loader_use_it_after_a_fork():
    want = torch.stack([Dataset()[i] for i in range(6)])
    loader = torch.utils.data.DataLoader(Dataset(), 2, num_workers=2, multiprocessing_context="fork", timeout=60)
    assert torch.cat(list(loader)).equal(want)
