"""Whole attentions, alone and as the tail of a residual block, on the fast backends against plain PyTorch in float64:
outputs and all gradients.
"""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

import whatwhere as ww
from whatwhere import ops

pytest.importorskip("numba")

KINDS = {
    "se": {},
    "cam": {"pools": ("avg", "max")},
    "cam-max": {"pools": ("max",)},
    "cam-turned": {"pools": ("max", "lp", "avg")},
    "cam-lse": {"pools": ("avg", "lse")},
    "sam": {"kernel_size": 3},
    "sam-turned": {"pools": ("avg", "max"), "kernel_size": 3},
    "sam-learned": {"pools": "conv", "kernel_size": 3},
    "cbam": {},
    "cbam-back": {"order": "spatial-channel"},
    "cbam-parallel": {"order": "parallel"},
    "cbam-lp": {"pools": ("lp",), "gate": "hard_sigmoid"},
    "bam": {},
}
SHAPES = st.tuples(st.integers(1, 3), st.integers(2, 40), st.integers(1, 9), st.integers(1, 9))


def build(kind, channels, dtype=torch.float64):
    torch.manual_seed(0)
    attention = ww.create(kind.split("-")[0], channels, **KINDS[kind])
    with torch.no_grad():
        for p in attention.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return attention.to(dtype)


def batch_norm(channels, dtype, mean=0.0):
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(channels))
        norm.weight[::5] = 0
        norm.bias.normal_()
        norm.running_mean.fill_(mean)
        norm.running_var.uniform_(0.5, 2)
    return norm.to(dtype)


def a_map(shape, last, seed, dtype=torch.float64, mean=0.0):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + mean
    x = x.to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if last else x


def run(backend, attention, x, norm=None, residual=None, relu=False):
    """Output, gradients of everything, and running statistics."""
    attention, norm = copy.deepcopy(attention), copy.deepcopy(norm)
    leaves = [t.detach().clone().requires_grad_() for t in (x, residual) if t is not None]
    with ops.backend(backend):
        y = attention.attend(leaves[0], norm=norm, residual=leaves[1] if residual is not None else None, relu=relu)
        weights = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).to(y.dtype).view(y.shape)
        (y * weights).sum().backward()
    modules = [m for m in (attention, norm) if m is not None]
    found = [y.detach(), *(t.grad for t in leaves)]
    found += [p.grad for m in modules for p in m.parameters()]
    return found + [b for m in modules for b in m.buffers()]


def close(got, want, tolerance):
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            scale = max(b.double().abs().max().item(), 1.0) if b.numel() else 1.0
            torch.testing.assert_close(a.double(), b.double(), rtol=tolerance, atol=tolerance * scale, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 20, 7, 5), (3, 32, 1, 1), (1, 6, 8, 9), (2, 16, 4, 4)], ids=str)
def test_an_attention_is_the_reference(kind, last, training, shape):
    attention, x = build(kind, shape[1]).train(training), a_map(shape, last, 1)
    close(run("cpu", attention, x), run("reference", attention, x), 1e-11)
    single = copy.deepcopy(attention).float()
    close(run("cpu", single, x.float()), run("reference", attention, x), 2e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_a_tail_is_the_reference(kind, last, training, residual):
    shape = (3, 20, 7, 5)
    attention = build(kind, 20).train(training)
    norm = batch_norm(20, torch.float64).train(training)
    x, r = a_map(shape, last, 1, mean=3.0), a_map(shape, last, 2) if residual else None
    want = run("reference", attention, x, norm, r, relu=residual)
    close(run("cpu", attention, x, norm, r, relu=residual), want, 1e-9)
    single = copy.deepcopy(attention).float(), x.float(), norm.float(), None if r is None else r.float(), residual
    close(run("cpu", *single), want, 2e-3)


@given(SHAPES, st.sampled_from(sorted(KINDS)), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=120)
def test_any_shape(shape, kind, last, training, tail, seed):
    attention = build(kind, shape[1]).train(training)
    norm = batch_norm(shape[1], torch.float64).train(training) if tail else None
    if norm is not None and training and shape[0] * shape[2] * shape[3] == 1:
        return  # PyTorch's batch normalisation refuses it as well
    x, r = a_map(shape, last, seed), a_map(shape, last, seed + 1) if tail else None
    # With two values a channel the variance may be next to nothing, and what is divided by it anything.
    tolerance = 1e-5 if tail and training else 1e-9
    close(run("cpu", attention, x, norm, r, tail), run("reference", attention, x, norm, r, tail), tolerance)


@pytest.mark.parametrize("mean", [0.0, 100.0, 10000.0])
@pytest.mark.parametrize("last", [False, True])
def test_statistics_of_a_tail_do_not_cancel(mean, last):
    """In float32 with a mean that is large against the spread, as exact as PyTorch's batch normalisation or better."""
    x, r = a_map((8, 16, 14, 14), last, 1, torch.float32, mean), a_map((8, 16, 14, 14), last, 2, torch.float32)
    attention, norm = build("cbam", 16), batch_norm(16, torch.float64, mean)
    want = run("reference", attention, x.double(), norm, r.double(), True)
    attention, norm = attention.float(), norm.float()
    got, torchs = (run(backend, attention, x, norm, r, True) for backend in ("cpu", "reference"))

    def error(found):
        pairs = [(a.double(), b) for a, b in zip(found, want, strict=True) if b.is_floating_point()]
        return [((a - b).norm() / b.norm().clamp_min(1e-3)).item() for a, b in pairs]

    for ours, theirs in zip(error(got), error(torchs), strict=True):
        assert ours <= max(2 * theirs, 1e-5)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}], ids=str)
def test_running_statistics_are_those_of_batch_norm(momentum, options):
    ours = nn.BatchNorm2d(20, momentum=momentum, **options)
    theirs = copy.deepcopy(ours)
    attention = build("cbam", 20, torch.float32)
    for seed in range(4):
        x = a_map((4, 20, 6, 6), False, seed, torch.float32, 2.0)
        with ops.backend("cpu"):
            y = attention.attend(x, norm=ours)
        torch.testing.assert_close(y, _plain(attention, x, theirs), rtol=1e-4, atol=1e-5)
        for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
            torch.testing.assert_close(a, b)


def _plain(attention, x, norm):
    """The same tail in plain PyTorch, with the attention's own running statistics left alone."""
    twin = copy.deepcopy(attention)
    with ops.backend("reference"):
        return twin.attend(x, norm=norm)


@pytest.mark.parametrize("kind", ["se", "sam", "cbam", "cam-turned"])
@pytest.mark.parametrize("tail", [False, True])
def test_gradcheck_through_the_kernels(kind, tail):
    attention = build(kind, 5).eval()
    norm = batch_norm(5, torch.float64) if tail else None
    x, r = (a_map((2, 5, 3, 4), False, seed).requires_grad_() for seed in (1, 2))
    names, parameters = zip(*attention.named_parameters(), strict=True)

    def call(x, r, *values):
        with torch.no_grad():
            saved = [p.detach().clone() for p in parameters]
        try:
            return torch.func.functional_call(
                _Tail(attention, norm, r, tail), {f"attention.{n}": v for n, v in zip(names, values, strict=True)}, (x,)
            )
        finally:
            for p, before in zip(parameters, saved, strict=True):
                p.data.copy_(before)

    with ops.backend("cpu"):
        assert torch.autograd.gradcheck(call, (x, r, *parameters))


class _Tail(nn.Module):
    def __init__(self, attention, norm, residual, relu):
        super().__init__()
        self.attention, self.norm, self.residual, self.relu = attention, norm, residual, relu

    def forward(self, x):
        norm = copy.deepcopy(self.norm)  # a numerical derivative runs it many times; its statistics are not to move
        return self.attention.attend(x, norm=norm, residual=self.residual, relu=self.relu)


@pytest.mark.parametrize("kind", ["se", "sam", "cbam", "cam"])
def test_a_second_derivative_is_right(kind):
    attention = build(kind, 4).eval()
    x = a_map((2, 4, 3, 3), False, 1).requires_grad_()
    with ops.backend("cpu"):
        assert torch.autograd.gradgradcheck(attention, (x,))
    penalties = []
    for backend in ("cpu", "reference"):
        with ops.backend(backend):
            (gradient,) = torch.autograd.grad(attention(x).square().sum(), x, create_graph=True)
            penalties.append(torch.autograd.grad(gradient.square().sum(), [x, *attention.parameters()]))
    close(*penalties, 1e-10)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("frozen", [("x",), ("parameters",), ("x", "parameters")], ids=str)
def test_what_needs_no_gradient_gets_none(last, frozen):
    attention, x = build("cbam", 20, torch.float32), a_map((2, 20, 5, 5), last, 1, torch.float32)
    grads = []
    for backend in ("cpu", "reference"):
        twin, leaf = copy.deepcopy(attention), x.clone().requires_grad_("x" not in frozen)
        twin.requires_grad_("parameters" not in frozen)
        with ops.backend(backend):
            y = twin(leaf)
            if y.requires_grad:
                y.square().sum().backward()
        grads.append([leaf.grad, *(p.grad for p in twin.parameters())])
    close(*grads, 1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("last", [False, True])
def test_autocast_and_half_precision(dtype, last):
    attention, norm = build("cbam", 32), batch_norm(32, torch.float64)
    x, r = a_map((2, 32, 9, 9), last, 1).to(dtype), a_map((2, 32, 9, 9), last, 2).to(dtype)
    want = run("reference", attention, x.double(), norm, r.double(), True)[0]
    with torch.autocast("cpu", dtype), ops.backend("cpu"):
        mixed = attention.float().attend(x, norm=norm.float(), residual=r, relu=True)
    half = run("cpu", copy.deepcopy(attention).to(dtype), x, norm, r, True)[0]
    for got in (mixed, half):
        assert got.dtype == dtype
        assert ((got.double() - want).norm() / want.norm()).item() < 0.02


@pytest.mark.parametrize("last", [False, True])
def test_single_ops_are_the_reference(last):
    x = a_map((2, 20, 5, 6), last, 1)
    c, s, f = (a_map(shape, False, 3).sigmoid() for shape in ((2, 20, 1, 1), (2, 1, 5, 6), (2, 20, 5, 6)))
    calls = [
        lambda x, c, s, f: ops.squeeze_space(x, ("avg", "max", "lp")),
        lambda x, c, s, f: ops.squeeze_space(x, ("lse", "avg"), s),
        lambda x, c, s, f: ops.squeeze_channels(x, ("max", "avg"), c),
        lambda x, c, s, f: ops.squeeze_channels(x, ("avg",)),
        lambda x, c, s, f: ops.apply_gates(x, c, s, f, x, True),
        lambda x, c, s, f: ops.apply_gates(x, c),
        lambda x, c, s, f: ops.apply_gates(x, None, s, residual=c.expand_as(x)),
        lambda x, c, s, f: ops.apply_gates(x, relu=True),
        lambda x, c, s, f: ops.apply_gates(x, c, s),
    ]
    for call in calls:
        grads = []
        for backend in ("cpu", "reference"):
            leaves = [t.clone().requires_grad_() for t in (x, c, s, f)]
            with ops.backend(backend):
                y = call(*leaves)
                y.square().sum().backward()
            grads.append([y, *(t.grad for t in leaves)])
        close(*grads, 1e-12)


@pytest.mark.parametrize("last", [False, True])
def test_opcheck(last):
    x = a_map((2, 20, 5, 6), last, 1, torch.float32).requires_grad_()
    shift, gates = torch.randn(20), [torch.randn(2, 20, requires_grad=True) for _ in range(2)]
    spatial, residual = torch.rand(2, 1, 5, 6, requires_grad=True), torch.randn_like(x, requires_grad=True)
    moves = torch.ops.whatwhere
    ends = [t.detach().clone().requires_grad_() for t in moves.open(x, shift, 3)]
    lines, channels = torch.randn(2, 2, 5, 6), torch.randint(0, 20, (2, 5, 6)).float()
    points, spots = torch.randn(2, 3, 20), torch.randint(0, 30, (2, 20)).float()
    weight = torch.randn(1, 2, 3, 3, requires_grad=True)
    cases = [
        (moves.open, (x, shift, 3)),
        (moves.squeeze_space, (x, shift, shift.sign(), 3, True, *ends[6:])),
        (moves.squeeze_channels, (x, shift, *gates, *ends[3:6])),
        (moves.apply_gates, (x, shift, *gates, spatial, residual, True, *ends[:3])),
        (moves.apply_gates, (x, None, gates[0], None, None, None, False, None, None, None)),
        (moves.filter_maps, (lines.requires_grad_(), weight)),
    ]
    y = x.detach()
    small = [None if t is None else t.detach() for t in (shift, *gates, spatial)]
    cases += [
        (moves.apply_gates_backward, (y, y, y, *small)),
        (moves.squeeze_channels_backward, (y, shift, lines.detach(), channels)),
        (moves.gather, (y, y, shift, small[1], small[3], lines.detach(), channels, points, spots)),
        (moves.filter_maps_backward, (lines.detach()[:, :1], lines.detach(), weight.detach())),
    ]
    for op, args in cases:
        torch.library.opcheck(op.default, args)


def test_saved_for_backward_is_the_map_and_little_more():
    x = torch.randn(2, 256, 28, 28, requires_grad=True)
    attention = ww.create("cbam", 256)
    parameters = {p.untyped_storage().data_ptr() for p in [*attention.parameters(), *attention.buffers()]}
    saved = {}

    def pack(t):
        if t.untyped_storage().data_ptr() not in parameters:
            saved[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), ops.backend("cpu"):
        attention(x)
    assert sum(saved.values()) <= 1.05 * x.numel() * 4


@pytest.mark.parametrize("kind", ["se", "cbam", "cbam-back"])
@pytest.mark.parametrize("tail", [False, True])
def test_a_compiled_graph_holds_the_kernels(kind, tail):
    torch._dynamo.reset()
    graphs = []

    def keep(graph, example):
        graphs.append(graph)
        return graph

    attention, norm = build(kind, 20, torch.float32), batch_norm(20, torch.float32) if tail else None
    module = _Compiled(attention, norm) if tail else attention
    x = a_map((2, 20, 5, 6), True, 1, torch.float32)
    want = copy.deepcopy(module)(x)
    torch.testing.assert_close(torch.compile(module, backend=keep, fullgraph=True)(x), want)
    calls = {str(node.target) for graph in graphs for node in graph.graph.nodes if node.op == "call_function"}
    assert any("whatwhere.apply_gates" in call for call in calls)
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True, backend="aot_eager")
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    for function, leaf in zip((compiled, copy.deepcopy(module)), leaves, strict=True):
        function(leaf).square().sum().backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-4, atol=1e-5)


class _Compiled(nn.Module):
    def __init__(self, attention, norm):
        super().__init__()
        self.attention, self.norm = attention, norm

    def forward(self, x):
        return self.attention.attend(x, norm=self.norm, residual=x, relu=True)


def test_every_pair_of_options_of_the_steps_is_served_or_falls_back():
    pools = list(itertools.permutations(("avg", "max", "lp"), 2))
    x = a_map((2, 8, 4, 4), False, 1)
    for pair, order in itertools.product(pools, ("channel-spatial", "spatial-channel")):
        attention = ww.CBAM(8, pools=pair, order=order, reduction=2).double()
        close(run("cpu", attention, x), run("reference", attention, x), 1e-11)


GLANCES = {**KINDS, "cbam-identity": {"identity": True, "pools": ("max",)}, "cbam-one": {"spatial_pools": ("avg",)}}
GLANCES |= {"cbam-swapped": {"spatial_pools": ("avg", "max"), "kernel_size": 3, "bias": False}}


@pytest.mark.parametrize("kind", GLANCES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_glance_is_the_reference(kind, last, tail, dtype, monkeypatch):
    """Without gradients an attention is done image by image; also where there are fewer images than threads, and where
    weights outweigh a map.
    """
    torch.manual_seed(0)
    attention = ww.create(
        kind.split("-")[0], 24, **({"reduction": 4} if kind[0] in "cb" else {}), **GLANCES[kind]
    ).double()
    with torch.no_grad():
        for p in attention.parameters():
            p.add_(0.4 * torch.randn_like(p))
    norm = batch_norm(24, torch.float64) if tail else None
    attention.eval(), norm.eval() if tail else None
    for shape in ((4, 24, 7, 9), (1, 24, 17, 20), (3, 24, 2, 2)):
        x, r = a_map(shape, last, 1), a_map(shape, last, 2) if tail else None
        with torch.no_grad():
            with ops.backend("reference"):
                want = attention.attend(x, norm=norm, residual=r, relu=tail)
            twin = copy.deepcopy(attention).to(dtype)
            small = copy.deepcopy(norm).float() if tail and dtype != torch.float64 else norm
            with ops.backend("cpu"):
                got = twin.attend(x.to(dtype), norm=small, residual=None if r is None else r.to(dtype), relu=tail)
        error = ((got.double() - want).norm() / want.norm().clamp_min(1e-3)).item()
        assert error < {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
        assert got.stride() == want.stride()


def test_a_glance_is_taken_and_lets_nan_stay_in_its_image(monkeypatch):
    from whatwhere.ops import cpu

    taken, glance = [], cpu.glance
    monkeypatch.setattr(cpu, "glance", lambda *args: taken.append(1) or glance(*args))
    attention, x = build("cbam", 20, torch.float32).eval(), a_map((4, 20, 9, 8), True, 1, torch.float32)
    x[1, 3, 2, 2] = float("nan")
    x[2, 3, 2, 2] = float("inf")
    with torch.no_grad():
        y = attention(x)
        with ops.backend("reference"):
            torch.testing.assert_close(y, attention(x), rtol=1e-4, atol=1e-5, equal_nan=True)
    assert taken == [1]
    assert y[0].isfinite().all()
    attention(x)
    attention.train()
    with torch.no_grad():
        attention(x)
    assert taken == [1]
    attention.eval().mlp = None
    attention.channel.mlp.fc1.register_forward_hook(lambda *args: None)  # somebody looks on: each part runs as a module
    with torch.no_grad():
        attention(x)
    assert taken == [1]


@pytest.mark.parametrize("n", [1, 6])
def test_a_glance_compiles(n):
    torch._dynamo.reset()
    attention, x = build("cbam", 20, torch.float32).eval(), a_map((n, 20, 9, 8), True, 1, torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(attention, backend="aot_eager", fullgraph=True)(x), attention(x))


def test_a_glance_leaves_norms_without_running_statistics_to_the_moves():
    attention = build("cbam", 20).eval()
    norm = nn.BatchNorm2d(20, track_running_stats=False).double().eval()
    x = a_map((4, 20, 7, 9), True, 1, mean=3.0)
    found = []
    for backend in ("cpu", "reference"):
        with ops.backend(backend), torch.no_grad():
            found.append(attention.attend(x, norm=norm))
    torch.testing.assert_close(*found)


def test_what_is_smaller_than_the_map_is_spread_over_it():
    x, s, r = a_map((3, 20, 5, 6), False, 1), a_map((1, 1, 5, 6), False, 2), a_map((1, 20, 1, 1), False, 3)
    found = []
    for backend in ("cpu", "reference"):
        leaves = [t.clone().requires_grad_() for t in (x, s, r)]
        with ops.backend(backend):
            y = ops.apply_gates(leaves[0], None, leaves[1], residual=leaves[2], relu=True)
            y.square().sum().backward()
        found.append([y, *(t.grad for t in leaves)])
    close(*found, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_changes_no_output_and_no_gradient(kind, reentrant):
    """Running statistics take the batch in twice, because the forward runs twice: as those of torch's own BatchNorm2d
    do.
    """
    plain, checkpointed, twice = (build(kind, 20, torch.float32) for _ in range(3))
    x = a_map((4, 20, 9, 8), True, 1, torch.float32)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    want = plain(leaves[0])
    got = checkpoint(checkpointed, leaves[1], use_reentrant=reentrant)
    assert ops.which(x) == "cpu"
    for y in (want, got):
        y.square().sum().backward()
    found = [got, leaves[1].grad, *(p.grad for p in checkpointed.parameters())]
    close(found, [want, leaves[0].grad, *(p.grad for p in plain.parameters())], 1e-5)
    with torch.no_grad():
        twice(x), twice(x)
    close(checkpointed.buffers(), twice.buffers(), 1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tail", [False, True])
def test_gradients_come_in_batches_too(kind, tail):
    attention, norm = build(kind, 20, torch.float32), batch_norm(20, torch.float32) if tail else None
    x = a_map((2, 20, 5, 6), False, 1, torch.float32).requires_grad_()
    y = attention.attend(x, norm=norm, residual=x if tail else None, relu=tail)
    assert ops.which(x) == "cpu"
    inputs = [x, *attention.parameters()]

    def pull(v):
        return torch.autograd.grad(y, inputs, v, retain_graph=True)

    several = torch.randn(3, *y.shape, generator=torch.Generator().manual_seed(0))
    want = [torch.stack(one) for one in zip(*(pull(v) for v in several), strict=True)]
    close(torch.autograd.grad(y, inputs, several, retain_graph=True, is_grads_batched=True), want, 1e-4)
    close(torch.func.vmap(pull)(several), want, 1e-4)


def test_a_vectorised_hessian_is_right():
    attention = build("cbam", 4).eval()
    x = a_map((1, 4, 2, 3), False, 1)
    found = []
    for backend in ("cpu", "reference"):
        with ops.backend(backend):
            found.append(
                torch.autograd.functional.hessian(lambda x: attention(x).square().sum(), x, vectorize=backend == "cpu")
            )
    torch.testing.assert_close(*found)


class Sized(torch.Tensor):
    """A tensor whose methods take a size as a tuple only, as MONAI's MetaTensor's."""

    def new_empty(self, size, **options):
        return self.as_subclass(torch.Tensor).new_empty(size=size, **options)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("kind", ["se", "sam", "cbam"])
def test_a_subclass_of_tensor_has_the_same_gradients(kind, backend):
    attention, x = build(kind, 8), torch.randn(2, 8, 5, 6, dtype=torch.float64)
    with ww.backend(backend):
        attention(x).square().sum().backward()
        want = [p.grad.clone() for p in attention.parameters()]
        attention.zero_grad()
        attention(x.as_subclass(Sized)).square().sum().backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(attention.parameters(), want, strict=True))
