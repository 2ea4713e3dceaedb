"""Which backend runs, what forces it, and what happens where it cannot."""

import contextlib
import contextvars
import functools
import os
import subprocess
import sys
import threading
import warnings

import pytest
import torch

import whatwhere as ww
from whatwhere import ops
from whatwhere.errors import WhatwhereError
from whatwhere.ops import backends, cpu

pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def nothing_warned_yet(monkeypatch):
    monkeypatch.setattr(backends, "_warned", set())


def a_map(dtype=torch.float32, shape=(2, 16, 8, 8)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


FORWARD = ["squeeze_space", "squeeze_channels", "filter_maps", "apply_gates"]
BACKWARD = ["apply_gates_backward", "filter_maps_backward", "squeeze_channels_backward", "gather"]


def record(monkeypatch):
    """Write down which moves of the CPU backend run."""
    ran = []

    def listen(name, move, *args):
        ran.append(name)
        return move(*args)

    for name in (*FORWARD, *BACKWARD):
        monkeypatch.setattr(cpu, name, functools.partial(listen, name, getattr(cpu, name)))
    return ran


def test_what_which_says_is_what_runs(monkeypatch):
    ran, x = record(monkeypatch), a_map().requires_grad_()
    attention = ww.create("cbam", 16)
    assert ops.which(x) == "cpu"
    attention(x).sum().backward()
    assert ran == [*FORWARD, *BACKWARD]
    ran.clear()
    with ops.backend("reference"):
        assert ops.which(x) == "reference"
        attention(x).sum().backward()
    assert ran == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_both_layouts_are_served(dtype):
    x = a_map(dtype)
    assert ops.which(x) == ops.which(x.contiguous(memory_format=torch.channels_last)) == "cpu"


FALLBACKS = {
    "float64": (lambda: a_map(torch.float64), "float64"),
    "layout": (lambda: a_map().transpose(2, 3)[:, ::2], "contiguous"),
    "rows": (lambda: a_map()[:, :, ::2], "contiguous"),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_what_it_cannot_serve_falls_back_with_one_warning(name):
    make, word = FALLBACKS[name]
    x = make()
    attention = ww.create("cbam", x.shape[1]).to(x.dtype)
    assert ops.which(x) == "reference"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        y = attention(x)
        attention(x)
    assert [word in str(warning.message) for warning in caught] == [True]
    with ops.backend("reference"):
        torch.testing.assert_close(y, attention(x))


def test_a_forced_backend_that_cannot_run_raises():
    with ops.backend("cpu"), pytest.raises(WhatwhereError, match=r"contiguous.*'auto'"):
        ww.create("se", 8)(a_map()[:, ::2])
    with ops.backend("cuda"), pytest.raises(WhatwhereError, match="the map is on cpu"):
        ww.create("se", 16)(a_map())


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(backends._installed, "numba", False)
    with pytest.warns(UserWarning, match=r"numba is not installed \(pip install 'whatwhere\[fast\]'\)"):
        ww.create("se", 16)(a_map())
    with ops.backend("cpu"), pytest.raises(WhatwhereError, match="numba is not installed"):
        ops.which(a_map())


def test_choices_nest_and_stay():
    x = a_map()
    with ops.backend("reference"):
        with ops.backend("auto"):
            assert ops.which(x) == "cpu"
        assert ops.which(x) == "reference"
    assert ops.which(x) == "cpu"
    try:
        ww.backend("reference")
        assert ops.which(x) == "reference"
    finally:
        ww.backend("auto")


def test_a_choice_object_is_good_for_several_blocks():
    x, chosen = a_map(), ops.backend("reference")
    for _ in range(2):
        with chosen:
            assert ops.which(x) == "reference"
        assert ops.which(x) == "cpu"


def test_threads_choose_each_for_itself(monkeypatch):
    """Each of several threads forces another backend at the same time, in a block, and its own kernels run."""
    ran = {}
    for name in FORWARD:
        move = getattr(cpu, name)
        monkeypatch.setattr(
            cpu, name, lambda *args, move=move: ran.setdefault(threading.get_ident(), []).append(1) or move(*args)
        )
    names = ["cpu", "reference", "auto", "reference", "cpu", "cuda"]
    barrier, said, failed = threading.Barrier(len(names)), {}, {}

    def work(number, name):
        attention, x = ww.create("cbam", 16), a_map()
        for _ in range(20):
            barrier.wait(60)
            with ww.backend(name):
                barrier.wait(60)
                try:
                    said.setdefault(number, set()).add(ops.which(x))
                    before = len(ran.get(threading.get_ident(), []))
                    attention(x).sum().backward()
                    said[number].add(len(ran.get(threading.get_ident(), [])) - before)
                except WhatwhereError as error:
                    failed[number] = str(error)
                barrier.wait(60)
            said.setdefault(number, set()).add(f"then {ops.which(x)}")

    threads = [threading.Thread(target=work, args=args) for args in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    want = {"cpu": {"cpu", 4, "then cpu"}, "auto": {"cpu", 4, "then cpu"}, "reference": {"reference", 0, "then cpu"}}
    want["cuda"] = {"then cpu"}
    assert [said[number] for number in range(len(names))] == [want[name] for name in names]
    assert list(failed) == [names.index("cuda")]


def test_a_new_thread_starts_with_the_process_choice():
    seen = []
    with ww.backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(ops.which(a_map())))
        thread.start()
        thread.join()
        contextvars.copy_context().run(lambda: seen.append(ops.which(a_map())))
    assert seen == ["cpu", "reference"]


@pytest.mark.parametrize("choice", ["context", "process"])
def test_compiled_code_follows_the_choice(choice, monkeypatch):
    """What was compiled under one choice does not run under another, in training and without gradients; `process` is
    PyTorch before 2.14.
    """
    if choice == "process":
        monkeypatch.setattr(backends, "_choice", backends._ProcessChoice())
    torch._dynamo.reset()
    attention, x = ww.create("cbam", 16), a_map()
    compiled = torch.compile(attention, backend="aot_eager", fullgraph=True)
    ran = record(monkeypatch)

    def moves(name):
        ran.clear()
        with ww.backend(name):
            leaf = x.clone().requires_grad_()
            compiled(leaf).sum().backward()
        assert leaf.grad.isfinite().all()
        return bool(ran)

    assert [moves(name) for name in ("auto", "reference", "auto", "cpu", "reference")] == [
        True,
        False,
        True,
        True,
        False,
    ]
    with torch.no_grad():
        for name, runs in (("reference", False), ("auto", True), ("reference", False)):
            ran.clear()
            with ww.backend(name):
                compiled(x)
            assert bool(ran) is runs


def test_threads_share_compiled_code_and_not_their_choice(monkeypatch):
    torch._dynamo.reset()
    attention, x = ww.create("se", 16).eval(), a_map()
    compiled = torch.compile(attention, backend="aot_eager", fullgraph=True)
    ran = record(monkeypatch)

    def moves(name=None):
        ran.clear()
        with contextlib.nullcontext() if name is None else ww.backend(name):
            compiled(x.clone().requires_grad_())
        return bool(ran)

    found = [moves()]
    for name in ("reference", None):
        thread = threading.Thread(target=lambda name=name: found.append(moves(name)))
        thread.start()
        thread.join()
    assert [*found, moves()] == [True, False, True, True]


def test_an_unknown_backend_raises_with_the_nearest():
    with pytest.raises(WhatwhereError, match="did you mean 'cuda'"):
        ops.backend("cuda:0")
    assert ops.which(a_map()) == "cpu"


@pytest.mark.parametrize(("value", "want"), [("reference", "reference"), ("cpu", "cpu"), ("auto", "cpu")])
def test_the_environment_variable(value, want):
    code = "import torch, whatwhere as ww; print(ww.ops.which(torch.randn(1, 4, 2, 2)))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "WHATWHERE_BACKEND": value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == want


def test_a_wrong_environment_variable_says_so():
    found = subprocess.run(
        [sys.executable, "-c", "import whatwhere"],
        env={**os.environ, "WHATWHERE_BACKEND": "numba"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert "WHATWHERE_BACKEND" in found.stderr
    assert "auto, reference, cpu, cuda" in found.stderr


def test_what_watches_or_transforms_tensors_gets_plain_pytorch():
    attention, x = ww.create("cbam", 16).eval(), a_map()
    want = attention(x)
    torch.testing.assert_close(torch.func.vmap(lambda one: attention(one[None])[0])(x), want)
    gradient = torch.func.grad(lambda x: attention(x).square().sum())(x)
    leaf = x.clone().requires_grad_()
    attention(leaf).square().sum().backward()
    torch.testing.assert_close(gradient, leaf.grad)
    _, tangent = torch.func.jvp(attention, (x,), (torch.ones_like(x),))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(attention(dual)).tangent, tangent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(attention, x, check_trace=False)
    assert "whatwhere::" not in str(traced.inlined_graph)
    torch.testing.assert_close(traced(x), want)


def test_an_exported_program_is_plain_pytorch():
    program = torch.export.export(ww.create("cbam", 16).eval(), (a_map(),))
    assert "whatwhere" not in str(program.graph)


def test_importing_whatwhere_imports_no_compiler():
    code = "import sys, whatwhere as ww; ww.create('cbam', 8); print({'numba', 'triton'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


WARM = """
import numba.core.event as event
import torch, whatwhere as ww
list(ww.ops.warm_up(("float32",)))
with event.install_recorder("numba:compile") as compiled:
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(4, 32, 9, 9).to(memory_format=layout).requires_grad_()
        norm = torch.nn.BatchNorm2d(32)
        for name in ww.names():
            attention = ww.create(name, 32)
            attention(x).sum().backward()
            attention.attend(x, norm=norm, residual=x, relu=True).sum().backward()
            with torch.no_grad():
                attention.eval()(x)
                attention.attend(x, norm=norm, residual=x, relu=True)
                attention.attend(x, norm=norm.eval(), residual=x, relu=True)
            norm.train()
print(len(compiled.buffer))
"""


def test_warming_up_leaves_nothing_to_compile():
    found = subprocess.run([sys.executable, "-c", WARM], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "0"
