"""The moves in Triton against the moves written out in float64.

On a GPU the kernels run on it; elsewhere in Triton's interpreter, which runs the same source in NumPy. Under NVIDIA's
checker of memory accesses:

    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck --error-exitcode 1 \\
        python -m pytest tests/ops/test_cuda.py

and likewise with ``--tool racecheck`` (shared memory) and ``--tool initcheck`` (what is read was written).
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import formulas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402
from interpreted import interpreted  # noqa: E402

from whatwhere.ops import backends  # noqa: E402
from whatwhere.ops.attend import attend  # noqa: E402
from whatwhere.ops.steps import Step  # noqa: E402

HERE = Path(__file__).parent
GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, about inf - inf


@pytest.fixture(scope="module")
def moves():
    """Return the backend; without a GPU one whose kernels are made for the interpreter."""
    if GPU:
        yield importlib.import_module("whatwhere.ops.cuda")
        return
    with interpreted() as backend:
        yield backend


@st.composite
def cases(draw):
    """A shape, a dtype and a memory format, how work is cut, numbers for it, and yes or no for up to ten options."""
    shape = (draw(st.integers(0, 3)), draw(st.integers(1, 40)), draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    cut = draw(st.sampled_from([(1024, 128, 2048), (1024, 16, 64), (1, 8, 128), (6, 32, 128)]))
    options = draw(st.lists(st.booleans(), min_size=10, max_size=10))
    return Case(shape, draw(st.sampled_from(DTYPES)), draw(st.booleans()), cut, draw(st.integers(0, 999)), options)


class Case:
    """Makes tensors of small multiples of 1/4, which are exact in every dtype, and of which many are equal."""

    def __init__(self, shape, dtype=torch.float32, last=False, cut=(1024, 128, 2048), seed=0, options=(True,) * 10):
        self.shape, self.dtype, self.last, self.cut, self.options = shape, dtype, last, cut, list(options)
        self.random = torch.Generator().manual_seed(seed)
        self.small = torch.float64 if dtype == torch.float64 else torch.float32

    def __repr__(self):
        return (
            f"Case({self.shape}, {self.dtype}, {self.last}, {self.cut}, {self.random.initial_seed()}, {self.options})"
        )

    def numbers(self, *shape):
        return torch.randint(-12, 13, shape, generator=self.random) / 4

    def a_map(self, special=()):
        x = self.numbers(*self.shape)
        for value in special:
            if x.numel():
                x.view(-1)[torch.randint(x.numel(), (1 + x.numel() // 30,), generator=self.random)] = value
        x = x.to(DEVICE, self.dtype)
        return x.to(memory_format=torch.channels_last) if self.last else x

    def per(self, *shape):
        return self.laid(self.numbers(*shape))

    def whole(self, below, *shape):
        return self.laid(torch.randint(below, shape, generator=self.random))

    def laid(self, numbers):
        """Return a small tensor, with the last option one whose numbers do not lie side by side."""
        numbers = numbers.to(DEVICE, self.small)
        return torch.stack([numbers, -numbers], -1)[..., 0] if self.options[9] else numbers

    def maybe(self, option, make, *args):
        made = make(*args)
        return made if self.options[option] else None

    def arguments(self, move, special=()):
        """Return what a move is called with; options that are not set leave arguments out."""
        n, c, h, w = self.shape
        x = self.a_map(special)
        shift = self.maybe(0, self.per, c)
        if special and shift is not None:
            shift[:: c // 3 + 1] = special[0]
        scale, bias = self.maybe(1, self.per, n, c), self.maybe(2, self.per, n, c)
        spatial = self.maybe(3, self.per, n, 1, h, w)
        lines, channels = self.per(n, 2, h, w), self.whole(c, n, h, w)
        if move == "squeeze_space":
            return x, shift, self.maybe(1, lambda: self.per(c).sign()), 1 + sum(self.options[2:4]), self.options[4]
        if move == "squeeze_channels":
            return x, shift, scale, bias
        if move == "apply_gates":
            return x, shift, scale, bias, spatial, self.maybe(4, self.a_map, special), self.options[5]
        if move == "apply_gates_backward":
            return self.a_map(special), x, self.maybe(4, self.a_map, special), shift, scale, bias, spatial
        if move == "squeeze_channels_backward":
            return x, shift, lines, channels
        g = self.maybe(4, self.a_map, special)
        kinds = 1 + sum(self.options[7:9])
        points, spots = self.maybe(6, self.per, n, kinds, c), self.whole(h * w, n, c)
        spots = spots if kinds > 1 and self.options[6] and self.options[2] else None
        return x, g, shift, scale, spatial, *((lines, channels) if self.options[5] else (None, None)), points, spots

    def run(self, moves, move, *arguments):
        with pytest.MonkeyPatch.context() as patch:
            tiles = sys.modules["whatwhere.ops.cuda.tiles"]
            for name, value in zip(("ENOUGH", "WIDE", "SIZE"), self.cut, strict=True):
                patch.setattr(tiles, name, value)
            return as_tuple(getattr(moves, move)(*arguments))


def as_tuple(results):
    return results if isinstance(results, tuple) else (results,)


def check(moves, case, move, special=()):
    """Compare one call with the formula in float64: values within rounding, places exactly, dtypes, shapes and memory
    format.
    """
    arguments = case.arguments(move, special)
    exact = [a.double() if isinstance(a, torch.Tensor) else a for a in arguments]
    got, want = case.run(moves, move, *arguments), as_tuple(getattr(formulas, move)(*exact))
    assert len(got) == len(want)
    for index, (ours, true) in enumerate(zip(got, want, strict=True)):
        is_map = move in ("apply_gates", "gather") or (move == "apply_gates_backward" and index == 0)
        assert ours.shape == true.shape
        assert ours.dtype == (case.dtype if is_map else case.small)
        assert ours.is_contiguous(
            memory_format=torch.channels_last if is_map and case.last and ours.dim() == 4 else torch.contiguous_format
        )
        rtol = torch.finfo(case.dtype).eps if is_map else 0
        torch.testing.assert_close(ours.double(), true, rtol=max(rtol, 2e-6), atol=2e-5, equal_nan=True)
    if move.startswith("squeeze") and not move.endswith("backward"):
        assert got[1].double().equal(want[1])


MOVES = [
    "squeeze_space",
    "squeeze_channels",
    "apply_gates",
    "apply_gates_backward",
    "squeeze_channels_backward",
    "gather",
]


@pytest.mark.parametrize("move", MOVES)
@given(case=cases())
@settings(max_examples=20)
def test_a_move_is_its_formula(moves, move, case):
    check(moves, case, move)


@pytest.mark.parametrize("move", MOVES)
@given(case=cases())
@settings(max_examples=10)
def test_values_that_are_not_finite_come_through(moves, move, case):
    check(moves, case, move, special=(float("inf"), float("-inf"), float("nan")))


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("last", [False, True])
def test_float64_stays_float64(moves, move, last):
    check(moves, Case((2, 5, 3, 4), torch.float64, last), move)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("last", [False, True])
def test_offsets_of_64_bits(moves, move, last, monkeypatch):
    monkeypatch.setattr(sys.modules["whatwhere.ops.cuda.tiles"], "NARROW", 0)
    check(moves, Case((2, 9, 5, 4), torch.float32, last, (1024, 8, 32)), move)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("cut", [(1024, 128, 2048), (1024, 8, 64)])
def test_two_runs_give_the_same_bits(moves, move, cut):
    case = Case((2, 17, 6, 7), torch.float16, True, cut)
    case.numbers = lambda *shape: torch.randn(shape, generator=case.random)
    arguments = case.arguments(move)
    for a, b in zip(case.run(moves, move, *arguments), case.run(moves, move, *arguments), strict=True):
        assert a.equal(b)


@pytest.mark.parametrize("cut", [(1024, 128, 2048), (1024, 8, 32)])
@pytest.mark.parametrize("peaks", [False, True])
@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_the_squeeze_over_space_gives_what_is_asked_for(moves, kinds, peaks, cut):
    """Every choice of kinds, with one chunk of places and with several that are joined."""
    options = [True, True, kinds > 1, kinds > 2, peaks, *[False] * 5]
    check(moves, Case((2, 11, 9, 9), torch.float32, False, cut, 0, options), "squeeze_space")


def test_the_gradient_of_a_squeeze_over_space_reads_the_map_for_squares_only(moves):
    x, points = torch.full((1, 3, 2, 2), float("nan"), device=DEVICE), torch.ones(1, 3, 3, device=DEVICE)
    spots = torch.zeros(1, 3, device=DEVICE)
    gradient = moves.gather(x, None, None, None, None, None, None, points[:, :2], spots)
    assert gradient.flatten(2).unique(dim=1).tolist() == [[[1.25, 0.25, 0.25, 0.25]]]
    assert moves.gather(x, None, None, None, None, None, None, points, spots).isnan().all()


@pytest.mark.parametrize("cut", [(1024, 128, 2048), (1024, 2, 4), (1, 2, 4)])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("numbers", "value", "place"),
    [
        ([3, 3, 3, 3, 3, 3], 3, 0),
        ([1, 2, 7, 2, 7, 1], 7, 2),
        ([float("-inf")] * 6, float("-inf"), 0),
        ([-0.0, 0.0, -0.0, 0.0, 0.0, 0.0], 0, 0),
        ([1, float("inf"), 5, float("inf"), 5, 5], float("inf"), 1),
        ([1, float("inf"), 5, float("nan"), 5, float("nan")], float("nan"), 3),
        ([float("nan")] * 6, float("nan"), 0),
    ],
)
def test_the_first_of_the_greatest(moves, numbers, value, place, last, cut):
    case = Case((1, 6, 2, 3), torch.float32, last, cut)
    row = torch.tensor(numbers, device=DEVICE)
    memory = torch.channels_last if last else torch.contiguous_format
    x = row.view(1, 1, 2, 3).expand(1, 6, 2, 3).contiguous(memory_format=memory)
    peaks, places = case.run(moves, "squeeze_space", x, None, None, 2, True)
    x = row.view(1, 6, 1, 1).expand(1, 6, 2, 3).contiguous(memory_format=memory)
    lines, channels = case.run(moves, "squeeze_channels", x, None, None, None)
    for got, want in ((peaks[:, 1], value), (places, place), (lines[:, 0], value), (channels, place)):
        torch.testing.assert_close(got, torch.full_like(got, want), rtol=0, atol=0, equal_nan=True)


def test_lanes_behind_the_last_place_add_nothing(moves):
    x, shift = torch.ones(1, 3, 3, 3, device=DEVICE), torch.full((3,), float("inf"), device=DEVICE)
    lines, channels = torch.ones(1, 2, 3, 3, device=DEVICE), torch.ones(1, 3, 3, device=DEVICE)
    # Not NaN, as 0·∞ would be.
    assert moves.squeeze_channels_backward(x, shift, lines, channels)[0, 0].tolist() == [float("-inf")] * 3
    assert moves.apply_gates_backward(x, x, None, shift, None, None, None)[1][0, 0].tolist() == [float("-inf")] * 3


def test_maps_in_another_memory_format_are_understood(moves):
    case = Case((2, 6, 4, 5))
    x, shift, scale, bias, spatial, residual, relu = case.arguments("apply_gates")
    want = moves.apply_gates(x, shift, scale, bias, spatial, residual, relu)
    other = residual.to(memory_format=torch.channels_last)
    assert moves.apply_gates(x, shift, scale, bias, spatial, other, relu).equal(want)
    wide = torch.zeros(2, 6, 4, 9, device=DEVICE)
    wide[..., 2:7] = x  # neither format
    assert moves.apply_gates(wide[..., 2:7], shift, scale, bias, spatial, residual, relu).equal(want)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("normal", [False, True])
def test_a_whole_attention_has_the_gradients_of_the_reference(moves, normal, last, monkeypatch):
    monkeypatch.setitem(backends._modules, DEVICE, moves)
    monkeypatch.setitem(backends._installed, "numba", True)
    case, found = Case((3, 5, 4, 6), last=last), []
    case.numbers = lambda *shape: torch.randn(shape, generator=case.random)
    x, residual, norm = case.a_map(), case.a_map(), torch.nn.BatchNorm2d(5).to(DEVICE) if normal else None
    what = Step("channel", ("avg", "max", "lp"), lambda stats: stats.sum(1)[:, :, None, None].sigmoid())
    where = Step("spatial", ("max", "avg"), lambda lines: lines.sum(1, keepdim=True).sigmoid())
    for name in ("auto", "reference"):
        leaves = [t.clone().requires_grad_() for t in (x, residual)]
        with backends.backend(name):
            assert (backends.which(x) == "reference") == (name == "reference")
            y = attend(leaves[0], [what, where], norm=norm, residual=leaves[1], relu=True)
            found.append([y, *torch.autograd.grad(y.sum(), leaves)])
    for ours, true in zip(*found, strict=True):
        torch.testing.assert_close(ours, true, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(GPU, reason="there is no interpreter")
def test_the_interpreter_leaves_triton_as_it_was(moves):
    case = Case((1, 3, 2, 2))
    before = [dict(vars(place)) for place in (tl, tl.core, tl.math, tl.tensor, tl.dtype)]
    for move in MOVES:
        check(moves, case, move)
    assert [dict(vars(place)) for place in (tl, tl.core, tl.math, tl.tensor, tl.dtype)] == before


@pytest.mark.slow
@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", [(1, 256, 56, 56), (3, 520, 7, 7)])
def test_maps_as_large_as_a_network_has(moves, move, last, shape):
    case = Case(shape, torch.bfloat16, last)
    check(moves, case, move)


@pytest.mark.skipif(not GPU, reason="takes a GPU with 24 GB of memory")
@pytest.mark.slow
def test_more_numbers_than_32_bits_count(moves):
    x = torch.zeros(35, 64, 1000, 1000, dtype=torch.float16, device=DEVICE)
    x[-1, -1, -1, -1] = 3
    stats, spots = moves.squeeze_space(x, None, None, 2, True)
    assert stats[-1, 1, -1] == 3
    assert spots[-1, -1] == 999_999
    lines, channels = moves.squeeze_channels(x, None, None, None)
    assert lines[-1, 0, -1, -1] == 3
    assert channels[-1, -1, -1] == 63
    assert moves.apply_gates(x, None, None, None, None, x, True)[-1, -1, -1, -1] == 6


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Triton compiles on Linux")
@pytest.mark.parametrize("capability", ["80", "90"])
def test_every_kernel_compiles_to_machine_code(capability, tmp_path):
    """Stands for a run on a GPU where there is none: the types agree, nothing spills, and both memory formats are read
    in 16 bytes at a time.
    """
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(HERE / "compile_kernels.py"), capability],
        capture_output=True, text=True, env=environment, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("compiled")
