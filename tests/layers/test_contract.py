"""One contract for every registered attention, with and without the identity start. Its traits decide what applies."""

import copy
import io
import math
import pickle
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import whatwhere as ww
from whatwhere.errors import WhatwhereError
from whatwhere.layers import entry

C = 20
BOTH = pytest.mark.parametrize("identity", [False, True], ids=["paper", "identity"])
ALL = pytest.mark.parametrize("name", ww.names())
GATED = pytest.mark.parametrize("name", [name for name in ww.names() if entry(name).gated])
EXACT = pytest.mark.parametrize("name", [name for name in ww.names() if entry(name).exact_identity])
SHAPES = [(2, C, 8, 8), (2, C, 9, 11), (0, C, 8, 8)]
SMALL = [(2, C, 7, 5), (1, C, 1, 1), (3, C, 1, 1), (1, C, 9, 1)]
SIZED = [(name, shape) for name in ww.names() for shape in SHAPES + SMALL * entry(name).any_size]
KEY_MAPS = [(name, key_map) for name in ww.names() for key_map in entry(name).key_maps]


def test_the_widths_here_suit_every_attention():
    assert all(e.min_channels <= 4 and 4 % e.channel_divisor == 0 for e in map(entry, ww.names()))


def build(name, identity=False, channels=C, trained=True, **options):
    """An attention; ``trained`` moves its parameters away from the start, so that gates differ from each other."""
    torch.manual_seed(0)
    attention = ww.create(name, channels, identity=identity, **options)
    if trained:
        with torch.no_grad():
            for p in attention.parameters():  # a sum of many terms spreads no further than one of fifty
                terms = p[0].numel() if p.dim() > 1 else 1
                p.add_(0.3 / max(1, terms / 50) ** 0.5 * torch.randn_like(p))
    return attention


LEARNING = pytest.mark.parametrize(
    ("name", "identity"),
    [
        pytest.param(name, identity, id=f"{form}-{name}")
        for identity, form in ((False, "paper"), (True, "identity"))
        for name in ww.names()
        if entry(name).gated and next(build(name, identity).parameters(), None) is not None
    ],
)


def a_map(shape=(2, C, 8, 8), dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


@BOTH
@pytest.mark.parametrize(("name", "shape"), SIZED, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_shapes(name, identity, shape, training):
    attention = build(name, identity).train(training)
    x = a_map(shape).requires_grad_()
    y = attention(x)
    assert y.shape == x.shape
    assert y.isfinite().all()
    y.sum().backward()
    assert x.grad.isfinite().all()
    assert all(b.isfinite().all() for b in attention.buffers())


@GATED
@given(n=st.integers(1, 3), c=st.integers(1, 40), h=st.integers(1, 9), w=st.integers(1, 9))
@settings(deadline=None, max_examples=25)
def test_any_shape_gives_gates_that_multiply(name, n, c, h, w):
    c += -c % entry(name).channel_divisor + max(0, entry(name).min_channels - c)
    attention = build(name, channels=c).eval()
    x = a_map((n, c, h, w) if entry(name).any_size else (n, c, h + 8, w + 8))
    h, w = x.shape[2:]
    gates = attention.gates(x)
    want = x
    for gate, shape in zip(gates, ((n, c, 1, 1), (n, 1, h, w), (n, c, h, w)), strict=True):
        if gate is not None:
            assert gate.shape == shape
            assert not entry(name).bounded or (gate.min() >= 0 and gate.max() <= 2)
            want = want * gate
    assert any(gate is not None for gate in gates)
    torch.testing.assert_close(attention(x), want)


@GATED
@BOTH
def test_views_of_the_gates(name, identity):
    gates = build(name, identity).gates(a_map((2, C, 6, 5)))
    views = [
        v
        for v, shape in ((gates.channel_view(), (2, C)), (gates.spatial_view(), (2, 6, 5)))
        if v is not None and v.shape == shape
    ]
    assert views
    assert len(views) == sum(v is not None for v in (gates.channel_view(), gates.spatial_view()))


@ALL
@BOTH
def test_gradients_in_float64(name, identity):
    # What holds something constant for the gradient (detach) has no gradient that differences could confirm.
    options = {k: v for k, v in {"reduction": 2, "detach": False}.items() if k in entry(name).options}
    attention = build(name, identity, channels=4, **options).double()
    x = a_map((2, 4, 3, 4), torch.float64).requires_grad_()
    names = [name for name, _ in attention.named_parameters()]

    def call(x, *values):
        return torch.func.functional_call(attention, dict(zip(names, values, strict=True)), (x,))

    attention.eval()
    assert torch.autograd.gradcheck(call, (x, *attention.parameters()))
    # Running statistics add nothing to the gradient in training; it is checked where a batch has statistics.
    assert torch.autograd.gradcheck(lambda x: attention.train()(x), (x,), nondet_tol=1e-9)


@ALL
@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(name, identity, dtype):
    attention = build(name, identity).eval()
    x = a_map(dtype=dtype)
    want = attention(x.float())
    got = copy.deepcopy(attention).to(dtype)(x)
    assert got.dtype == dtype
    # Gates without bounds are sums of products that cancel: rounding is as large as their terms.
    atol = 0.05 if entry(name).bounded else 0.05 * max(1.0, want.std().item())
    torch.testing.assert_close(got.float(), want, rtol=0.05, atol=atol)
    with torch.autocast("cpu", dtype):
        mixed = attention(x)
    assert mixed.dtype == dtype
    torch.testing.assert_close(mixed.float(), want, rtol=0.05, atol=atol)


@ALL
@BOTH
def test_channels_last_stays_and_changes_nothing(name, identity):
    attention = build(name, identity).eval()
    x = a_map()
    y = attention(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, attention(x), rtol=1e-5, atol=3e-5)


@EXACT
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_identity_is_exact_at_the_start(name, dtype):
    attention = build(name, identity=True, trained=False).to(dtype)
    x = a_map(dtype=dtype)
    for training in (False, True):
        assert attention.train(training)(x).equal(x)
        if entry(name).gated:
            assert all(gate.eq(1).all() for gate in attention.gates(x) if gate is not None)


@LEARNING
def test_gates_learn_from_the_first_step(name, identity):
    attention = build(name, identity, trained=False)
    optimizer = torch.optim.SGD(attention.parameters(), lr=1.0)
    x = a_map((8, C, 6, 6))
    target = torch.rand(8, C, 6, 6)
    before = [gate.clone() for gate in attention.gates(x) if gate is not None]
    (attention(x) * target).mean().backward()
    assert max(p.grad.abs().max() for p in attention.parameters() if p.grad is not None) > 0
    optimizer.step()
    after = [gate for gate in attention.gates(x) if gate is not None]
    assert all((a - b).abs().max() > 0 for a, b in zip(after, before, strict=True)), "a gate did not move"


@ALL
@BOTH
def test_every_parameter_learns_in_the_end(name, identity):
    attention = build(
        name, identity, channels=64
    ).eval()  # in training a bias before a batch normalisation has no gradient
    (attention(a_map((8, 64, 6, 6)).requires_grad_()) * torch.rand(8, 64, 6, 6)).sum().backward()
    idle = {n for n, p in attention.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    assert idle <= {*attention.idle_parameters}


@ALL
@BOTH
def test_idle_parameters_change_nothing(name, identity):
    attention = build(name, identity, channels=64).double().eval()
    x = a_map((2, 64, 6, 6), torch.float64)
    want = attention(x)
    with torch.no_grad():
        for key in attention.idle_parameters:
            attention.get_parameter(key).add_(torch.randn_like(attention.get_parameter(key)))
    torch.testing.assert_close(attention(x), want, rtol=1e-9, atol=1e-12)


@ALL
@BOTH
def test_copies(name, identity):
    attention = build(name, identity).eval()
    x = a_map()
    want = attention(x)
    loaded = pickle.loads(pickle.dumps(attention))
    fresh = build(name, identity, trained=False).eval()
    file = io.BytesIO()
    torch.save(attention.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(attention), loaded, fresh):
        assert other(x).equal(want)
        assert other.init_options == attention.init_options == ({"identity": True} if identity else {})


@ALL
def test_options_are_recorded(name):
    defaults = {k: p.default for k, p in entry(name).options.items()}
    assert ww.create(name, C, **defaults).init_options == {}
    assert ww.create(name, C, device="cpu", dtype=torch.float64).init_options == {}
    # An attention that has the same form with and without leaves it out.
    assert build(name, True).settings().get("identity", True) is True


@ALL
@BOTH
def test_the_tail_of_a_block_in_one(name, identity):
    attention = build(name, identity).eval()
    norm = nn.BatchNorm2d(C).eval()
    x, residual = a_map(), a_map().flip(0)
    want = torch.relu(attention(norm(x)) + residual)
    torch.testing.assert_close(attention.attend(x, norm=norm, residual=residual, relu=True), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "key_map"), KEY_MAPS, ids=[key_map.title for _, key_map in KEY_MAPS])
def test_every_spelling_loads(name, key_map):
    options = {k: v for k, v in {**key_map.example, **key_map.options}.items() if k in entry(name).options}
    attention = build(name, channels=32, **options)
    want = attention.state_dict()
    inverse = {ours: theirs for theirs, ours in key_map.parts.items()}
    theirs = {}
    for key, tensor in want.items():
        part = next(part for part in inverse if key == part or key.startswith(f"{part}."))
        # A conversion here either keeps the shape and is its own inverse, or changes 4 axes to 2.
        value = key_map.convert(key, tensor)
        theirs[f"module.{inverse[part]}{key.removeprefix(part)}"] = value
    got = build(name, channels=32, trained=False, **options).load_official(theirs)
    torch.testing.assert_close(got.state_dict(), want)
    assert not key_map.difference(got.settings(), {k: tuple(v.shape) for k, v in want.items()})


@ALL
def test_what_can_take_over_an_excitation_computes_the_same(name):
    trained = build("se", channels=24, reduction=3)
    taken = trained.excitation()
    options = entry(name).cls.options_for_excitation(taken, identity=True, chosen={})
    made = ww.create(name, 24, **options or {})
    assert made.take_excitation(taken) is (options is not None)
    if options is not None:
        torch.testing.assert_close(made(a_map((2, 24, 5, 5))), trained(a_map((2, 24, 5, 5))))


@ALL
@BOTH
def test_meta_device(name, identity):
    attention = build(name, identity, trained=False, device="meta")
    assert attention(torch.empty(2, C, 5, 6, device="meta")).shape == (2, C, 5, 6)
    torch.manual_seed(0)
    attention.to_empty(device="cpu")
    for part in attention.modules():
        if hasattr(part, "reset_running_stats"):
            part.reset_running_stats()
    attention.reset_parameters()
    assert all(p.isfinite().all() for p in attention.parameters())
    if identity and entry(name).exact_identity:
        assert attention(a_map()).equal(a_map())


@ALL
def test_dtype_option(name):
    assert {p.dtype for p in build(name, dtype=torch.float64).parameters()} <= {torch.float64}


@ALL
@BOTH
def test_compiles_without_a_graph_break(name, identity):
    torch._dynamo.reset()
    attention = build(name, identity)
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    for training in (True, False):
        twin = copy.deepcopy(attention).train(training)
        attention.train(training)
        x, x2 = a_map().requires_grad_(), a_map().requires_grad_()
        y, want = compiled(x), twin(x2)
        torch.testing.assert_close(y, want)
        y.square().sum().backward()
        want.square().sum().backward()
        torch.testing.assert_close(x.grad, x2.grad, rtol=1e-4, atol=1e-5)
        attention.zero_grad()


@ALL
@pytest.mark.slow
def test_compiles_with_inductor(name):
    torch._dynamo.reset()
    attention = build(name)
    # Two images would make a batch normalisation of squeezed maps a sign function, which enlarges rounding.
    x, x2 = (a_map((4, C, 8, 8)).requires_grad_() for _ in range(2))
    want = copy.deepcopy(attention)(x2)
    y = torch.compile(attention, fullgraph=True)(x)
    torch.testing.assert_close(y, want, rtol=1e-4, atol=1e-5)
    y.square().sum().backward()
    want.square().sum().backward()
    largest = max(1.0, x2.grad.abs().max().item())
    torch.testing.assert_close(x.grad, x2.grad, rtol=1e-4, atol=1e-4 * largest)


@ALL
@BOTH
def test_exports(name, identity):
    attention = build(name, identity).eval()
    # Sides from 4: below, half a side is 1, and a graph of PyTorch's takes a side of 1 for a constant.
    least, more = (4, 0) if entry(name).any_size else (8, 4)
    sides = {2: torch.export.Dim("height", min=least), 3: torch.export.Dim("width", min=least)}
    sizes = {0: torch.export.Dim("batch"), **sides}
    program = torch.export.export(attention, (a_map((2, C, 8 + more, 6 + more)),), dynamic_shapes=(sizes,))
    x = a_map((5, C, 7 + more, 9 + more))
    torch.testing.assert_close(program.module()(x), attention(x))


@ALL
@BOTH
def test_onnx(name, identity):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    attention = build(name, identity).eval()
    file = io.BytesIO()
    program = torch.onnx.export(
        attention, (a_map(),), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False
    )
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    x = a_map((3, C, 8, 8))
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), attention(x), rtol=1e-4, atol=1e-5)


@ALL
def test_values_that_are_not_finite_stay_in_their_image(name):
    attention = build(name).eval()
    x = a_map((3, C, 5, 5))
    x[1, 2, 3, 3] = math.nan
    y = attention(x)
    assert y[1].isnan().any()
    assert y[0].isfinite().all()
    assert y[2].isfinite().all()


@ALL
@pytest.mark.parametrize(
    "options",
    [
        {"gate": "softmax"},
        {"gaet": "sigmoid"},
        {"channels": 0},
        {"channels": -3},
        {"channels": 2.5},
        {"channels": True},
    ],
    ids=str,
)
def test_bad_options(name, options):
    with pytest.raises(WhatwhereError):
        ww.create(name, **{"channels": 8, **options})


@ALL
def test_identity_is_a_bool(name):
    with pytest.raises(WhatwhereError, match="identity must be True or False, got 'spatial'"):
        ww.create(name, 8, identity="spatial")


@ALL
def test_every_option_is_documented_and_every_entry_complete(name):
    found = entry(name)
    assert found.title
    assert re.search(r"\d{4}", found.paper)
    assert found.code.startswith("https://")
    doc = found.cls.__doc__
    missing = [option for option in found.options if f"        {option}:" not in doc]
    assert missing == []
    for section in ("Args:", "Shapes:", "Paper:", "Deviations", "Raises:"):
        assert section in doc
    assert {"identity", "device", "dtype"} <= set(found.options)
    assert getattr(ww, found.cls.__name__) is found.cls
    assert {found.cls.__name__} <= set(ww.__all__) & set(dir(ww))


@ALL
def test_reads_well(name):
    assert "identity=False" in repr(ww.create(name, 16))
    assert "identity=True" in repr(ww.create(name, 16, identity=True))
