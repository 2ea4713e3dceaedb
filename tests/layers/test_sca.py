"""SCA against NumPy, outputs and gradients; its precision, memory formats, memory and errors."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import whatwhere as ww
from whatwhere.layers import additive
from whatwhere.layers.sca import ORDERS

from . import sca_numpy
from .sca_numpy import KINDS

CLOSE = {"rtol": 1e-10, "atol": 1e-12}
D = 4

# channels, height, width, attention_dim, images, states
SIZES = [
    (6, 3, 2, 5, 2, 3),
    (1, 1, 1, 1, 1, 1),
    (7, 1, 1, 3, 2, 1),
    (1, 2, 3, 4, 1, 2),
    (3, 3, 3, 1, 3, 2),
    (5, 1, 4, 5, 1, 1),
]


def layer(kind, channels=6, inner=5, dtype=torch.float64, seed=0, size=0.7):
    made = ww.SCA(channels, D, inner, **KINDS[kind], dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * size)
    return made


def inputs(channels=6, height=3, width=2, images=2, states=3, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(images, channels, height, width, generator=generator, dtype=torch.float64)
    state = torch.randn(images, states, D, generator=generator, dtype=torch.float64)
    return maps.to(dtype), state.to(dtype)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def arrays(attention, **more):
    named = {**attention.state_dict(), **more}
    return {name: value.detach().double().numpy() for name, value in named.items()}


def gradients(attention, maps, state, weight):
    """Return the output and the gradients of Σ output · weight, by name, of the parameters, the map and the state."""
    leaves = {**dict(attention.named_parameters()), "maps": maps.clone(), "state": state.clone()}
    for name in ("maps", "state"):
        leaves[name].requires_grad_()
    out = attention(leaves["maps"], leaves["state"])
    found = torch.autograd.grad((out * weight).sum(), list(leaves.values()))
    return out.detach(), dict(zip(leaves, found, strict=True))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_those_of_the_formulas(kind, size):
    channels, height, width, inner, images, states = size
    attention = layer(kind, channels, inner)
    maps, state = inputs(channels, height, width, images, states)
    weight = noise(images, states, *maps.shape[1:])
    out, found = gradients(attention, maps, state, weight)
    values = arrays(attention, maps=maps, state=state)

    def loss(w):
        return (sca_numpy.attend_all(kind, w, w["maps"], w["state"]) * weight.numpy()).sum()

    np.testing.assert_allclose(out, sca_numpy.attend_all(kind, values, values["maps"], values["state"]), **CLOSE)
    for name, wanted in sca_numpy.derivatives(loss, values).items():
        np.testing.assert_allclose(found[name].reshape(-1), wanted, err_msg=name, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_gates_are_those_of_the_formulas_and_have_the_mean_one(kind):
    attention, (maps, state) = layer(kind), inputs()
    gates = attention.gates(maps, state[:, 1])
    assert gates.full is None
    w = arrays(attention)
    for image, (V, h) in enumerate(zip(maps.flatten(2).numpy(), state[:, 1].numpy(), strict=True)):
        beta, alpha = sca_numpy.gates(kind, w, V, h)
        for gate, wanted, shape in ((gates.channel, beta, (2, 6, 1, 1)), (gates.spatial, alpha, (2, 1, 3, 2))):
            if gate is None:
                np.testing.assert_array_equal(wanted, 1)
            else:
                assert gate.shape == shape
                np.testing.assert_allclose(gate[image].detach().reshape(-1), wanted, **CLOSE)
                assert gate[image].mean().item() == pytest.approx(1, abs=1e-14)
    assert [gates.channel is not None, gates.spatial is not None] == ["C" in kind, "S" in kind]
    product = maps * (1 if gates.channel is None else gates.channel) * (1 if gates.spatial is None else gates.spatial)
    torch.testing.assert_close(attention(maps, state[:, 1]), product, rtol=1e-13, atol=1e-13)


def test_the_orders_differ():
    maps, state = inputs()
    one, two = (layer(kind) for kind in ("C-S", "S-C"))
    two.load_state_dict(one.state_dict())
    assert (one(maps, state) - two(maps, state)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind):
    attention, (maps, state) = layer(kind, 3, 2), inputs(3, 2, 2, 2, 2)
    names, parameters = zip(*attention.named_parameters(), strict=True)
    leaves = [one.detach().clone().requires_grad_() for one in (maps, state, *parameters)]

    def call(maps, state, *own):
        return torch.func.functional_call(attention, dict(zip(names, own, strict=True)), (maps, state))

    assert torch.autograd.gradcheck(call, leaves)


SCORES = {
    additive.channel_scores: [(2, 3, 4), (5,), (2, 3, 5), (5,)],
    additive.position_scores: [(2, 4, 5), (2, 3, 5), (5,)],
    additive.scaled_position_scores: [(2, 4, 6), (2, 3, 6), (5, 6), (2, 3, 5), (5,)],
}
"""The functions of scores, with shapes that they take."""


def leaves_of(function, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(*shape, generator=generator).to(dtype).requires_grad_() for shape in SCORES[function]]


@pytest.mark.parametrize("function", SCORES, ids=lambda one: one.__name__)
def test_gradcheck_of_the_scores(function):
    leaves = leaves_of(function)
    assert torch.autograd.gradcheck(function, leaves)
    if function is additive.channel_scores:  # one description for all states
        assert torch.autograd.gradcheck(function, [leaves[0].detach()[:, :1].requires_grad_(), *leaves[1:]])


@pytest.mark.parametrize("function", SCORES, ids=lambda one: one.__name__)
def test_scores_take_tensors_in_any_order_of_memory(function):
    def turned(tensor):
        return tensor.detach().transpose(-1, -2).contiguous().transpose(-1, -2) if tensor.ndim > 1 else tensor.detach()

    leaves = leaves_of(function)
    others = [turned(one).requires_grad_() for one in leaves]
    wanted, scores = function(*leaves), function(*others)
    torch.testing.assert_close(scores, wanted, **CLOSE)
    weight = noise(*wanted.shape)
    exact = torch.autograd.grad(wanted, leaves, weight)
    found = torch.autograd.grad(scores, others, turned(weight))
    torch.testing.assert_close(found, exact, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_several_states_are_one_after_another(kind):
    attention, (maps, state) = layer(kind), inputs(states=4)
    together = attention(maps, state)
    assert together.shape == (2, 4, 6, 3, 2)
    for place in range(4):
        torch.testing.assert_close(together[:, place], attention(maps, state[:, place]), **CLOSE)
    for image in range(2):
        torch.testing.assert_close(together[image], attention(maps[image, None], state[image, None])[0], **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_pool_is_the_mean_of_the_attended_map(kind):
    attention, (maps, state) = layer(kind), inputs()
    prepared = attention.prepare(maps)
    weights = attention.weigh(prepared, state)
    attended = attention.attend(prepared, weights)
    torch.testing.assert_close(attention.pool(prepared, weights), attended.mean((3, 4)), **CLOSE)
    assert torch.equal(attended, attention(maps, state))


@pytest.mark.parametrize("part", [1, 2, 7, 30, 61, 10**9])
@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_the_parts_changes_nothing(kind, part, monkeypatch):
    attention, (maps, state) = layer(kind), inputs(images=5, states=2)
    weight = noise(5, 2, 6, 3, 2)
    out, found = gradients(attention, maps, state, weight)
    monkeypatch.setattr(additive, "PART", part)
    out_parts, found_parts = gradients(attention, maps, state, weight)
    torch.testing.assert_close(out_parts, out, **CLOSE)
    for name, value in found.items():
        torch.testing.assert_close(found_parts[name], value, **CLOSE)


def test_parts_cover_all_rows_once(monkeypatch):
    monkeypatch.setattr(additive, "PART", 10)
    for rows, numbers in ((0, 3), (1, 3), (3, 3), (4, 3), (7, 100), (5, 1), (3, 0)):
        assert [row for part in additive._parts(rows, numbers) for row in range(rows)[part]] == list(range(rows))


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_near_float64(kind):
    exact, attention = layer(kind, 64, 32), layer(kind, 64, 32, torch.float32)
    maps, state = inputs(64, 7, 5)
    weight = noise(2, 3, 64, 7, 5).float()
    out, found = gradients(attention, maps.float(), state.float(), weight)
    wanted, found_exact = gradients(exact, maps, state, weight.double())
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), wanted, rtol=1e-4, atol=1e-5)
    for name, value in found_exact.items():
        assert (found[name] - value).norm() <= 2e-5 * value.norm() + 1e-6, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision(kind, dtype):
    attention, (maps, state) = layer(kind, dtype=dtype, size=0.3), inputs(dtype=dtype)
    exact = copy.deepcopy(attention).double()
    weight = torch.ones(2, 3, 6, 3, 2, dtype=dtype)
    out, found = gradients(attention, maps, state, weight)
    wanted, found_exact = gradients(exact, maps.double(), state.double(), weight.double())
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), wanted, rtol=0.05, atol=0.05)
    for name, value in found_exact.items():
        assert found[name].dtype == dtype
        assert (found[name] - value).norm() <= 0.1 * value.norm() + 0.05, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_autocast(kind, dtype):
    attention, (maps, state) = layer(kind, 32, 16, torch.float32, size=0.3), inputs(32, 5, 4, dtype=torch.float32)
    weight = noise(2, 3, 32, 5, 4).float()
    wanted, exact = gradients(attention, maps, state, weight)
    maps = maps.to(dtype).requires_grad_()
    leaves = {**dict(attention.named_parameters()), "maps": maps}
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(maps, state)
        loss = (out * weight).sum()
    found = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    torch.testing.assert_close(out.float(), wanted, rtol=0.05, atol=0.05)
    for name, one in found.items():
        assert one.dtype == leaves[name].dtype
        assert (one - exact[name]).norm() <= 0.1 * exact[name].norm(), name


@pytest.mark.parametrize("function", SCORES, ids=lambda one: one.__name__)
def test_scores_leave_autocast(function):
    leaves = leaves_of(function, torch.float32)
    wanted = function(*leaves)
    with torch.autocast("cpu", torch.bfloat16):
        scores = function(*leaves)
    assert torch.equal(scores, wanted)
    found, exact = (torch.autograd.grad(one.sum(), leaves) for one in (scores, wanted))
    assert all(torch.equal(one, other) for one, other in zip(found, exact, strict=True))


@pytest.mark.parametrize("function", SCORES, ids=lambda one: one.__name__)
def test_gradients_of_scores_leave_autocast(function):
    leaves = leaves_of(function, torch.float32)
    scores = function(*leaves)
    exact = torch.autograd.grad(scores.sum(), leaves, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(scores.sum(), leaves)
    assert all(torch.equal(one, other) for one, other in zip(found, exact, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_memory_formats_and_views(kind):
    attention, (maps, state) = layer(kind), inputs(6, 4, 3)
    weight = noise(2, 3, 6, 4, 3)
    out, found = gradients(attention, maps, state, weight)
    wide = torch.zeros(2, 12, 4, 9, dtype=torch.float64)
    wide[:, ::2, :, ::3] = maps
    long = torch.zeros(2, 6, 2 * D, dtype=torch.float64)
    long[:, ::2, ::2] = state
    flipped = maps.transpose(2, 3).contiguous().transpose(2, 3)
    for other in (maps.contiguous(memory_format=torch.channels_last), wide[:, ::2, :, ::3], flipped):
        assert torch.equal(other, maps)
        leaf = other.detach().requires_grad_()
        again = attention(leaf, long[:, ::2, ::2])
        torch.testing.assert_close(again, out, **CLOSE)
        (grad,) = torch.autograd.grad((again * weight).sum(), [leaf])
        torch.testing.assert_close(grad, found["maps"], **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_without_gradient(kind):
    attention, (maps, state) = layer(kind), inputs()
    weight = noise(2, 3, 6, 3, 2)
    _, found = gradients(attention, maps, state, weight)
    leaf = state.clone().requires_grad_()
    (attention(maps, leaf) * weight).sum().backward()  # a map of a frozen encoder
    torch.testing.assert_close(leaf.grad, found["state"], **CLOSE)
    for name, parameter in attention.named_parameters():
        torch.testing.assert_close(parameter.grad, found[name], **CLOSE)
    attention.requires_grad_(False)
    leaf = maps.clone().requires_grad_()
    (attention(leaf, state) * weight).sum().backward()
    torch.testing.assert_close(leaf.grad, found["maps"], **CLOSE)
    for scorer in (attention.channel, attention.spatial):  # one trained parameter only
        if scorer is not None:
            scorer.vector.requires_grad_()
            scorer.vector.grad = None
    (attention(maps, state) * weight).sum().backward()
    for name, parameter in attention.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, found[name], **CLOSE)
    with torch.inference_mode():
        assert not attention(maps, state).requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_no_images_and_no_states(kind):
    attention = layer(kind)
    for images, states in ((0, 2), (2, 0)):
        maps, state = inputs(images=images, states=states)
        maps.requires_grad_()
        out = attention(maps, state)
        assert out.shape == (images, states, 6, 3, 2)
        out.sum().backward()
        assert maps.grad.abs().sum() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_state_dicts(kind):
    attention, (maps, state) = layer(kind), inputs()
    other = ww.SCA(6, D, 5, **KINDS[kind], dtype=torch.float64)
    assert not torch.equal(other(maps, state), attention(maps, state))
    other.load_state_dict(attention.state_dict())
    for one in (other, copy.deepcopy(attention), pickle.loads(pickle.dumps(attention))):
        assert torch.equal(one(maps, state), attention(maps, state))
        assert repr(one) == repr(attention)
    parts = [name for name, there in (("channel", "C" in kind), ("spatial", "S" in kind)) if there]
    ends = ("weight", "bias", "vector", "query.weight")
    assert sorted(attention.state_dict()) == sorted(f"{part}.{end}" for part in parts for end in ends)


def test_start_is_that_of_the_official_code():
    torch.manual_seed(0)
    attention = ww.SCA(300, 200, 200)
    for scorer in (attention.channel, attention.spatial):
        assert scorer.bias.abs().sum() == 0
        query = scorer.query.weight.detach()
        torch.testing.assert_close(query @ query.T, torch.eye(200), rtol=0, atol=1e-5)
        assert scorer.vector.std().item() == pytest.approx(0.01, rel=0.2)
    assert attention.channel.weight.shape == (200,)
    assert attention.spatial.weight.std().item() == pytest.approx(0.01, rel=0.05)
    gates = attention.gates(torch.rand(2, 300, 7, 7), torch.rand(2, 200))
    assert max((gate - 1).abs().max().item() for gate in (gates.channel, gates.spatial)) < 0.15


def test_a_second_derivative_raises():
    attention, (maps, state) = layer("C-S"), inputs()
    maps.requires_grad_()
    (grad,) = torch.autograd.grad(attention(maps, state).square().sum(), [maps], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels must be a whole number of at least 1, got 0"),
        ({"state_dim": -1}, "state_dim must be a whole number of at least 1, got -1"),
        ({"attention_dim": 2.5}, r"attention_dim must be a whole number of at least 1, got 2\.5"),
        (
            {"order": "channel_spatial"},
            "order 'channel_spatial': one of channel-spatial, spatial-channel; did you mean",
        ),
        ({"channel": False, "spatial": False}, "needs channel=True, spatial=True, or both"),
        ({"channel": 1}, "channel must be True or False, got 1"),
        ({"spatial": "yes"}, "spatial must be True or False, got 'yes'"),
        ({"channel": False, "spatial": None}, "spatial must be True or False, got None"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ww.WhatwhereError, match=message):
        ww.SCA(**{"channels": 6, "state_dim": D, **options})


def test_wrong_inputs():
    attention = ww.SCA(6, D, 5)
    maps, state = torch.rand(2, 6, 3, 2), torch.rand(2, D)
    for wrong in (maps[0], maps[:, :5], maps.flatten(2), maps.to(torch.int64)):
        with pytest.raises(ww.WhatwhereError, match=r"SCA\(6\) takes floating maps \(N, 6, H, W\), got torch\.\w+ \("):
            attention(wrong, state)
    for wrong in (state[:1], state[:, :3], state[0], torch.rand(1, 2, 3, D), torch.rand(3, 2, D)):
        said = r"the state for 2 maps must be \(2, 4\) or \(2, R, 4\), got \("
        with pytest.raises(ww.WhatwhereError, match=said):
            attention(maps, wrong)
    with pytest.raises(ww.WhatwhereError, match=r"the state for 2 maps must be \(2, 4\), got \(2, 3, 4\)"):
        attention.gates(maps, torch.rand(2, 3, D))


def test_extra_repr_says_the_options():
    said = "SCA(\n  6, state_dim=4, attention_dim=5, order='{}', channel=True, spatial=True"
    for order in ORDERS:
        assert repr(ww.SCA(6, D, 5, order)).startswith(said.format(order))
    assert "order" not in repr(ww.SCA(6, D, 5, spatial=False))


sizes = st.integers(1, 9)


@given(
    st.sampled_from(list(KINDS)), sizes, sizes, sizes, sizes, st.integers(1, 3), st.integers(1, 3), st.integers(0, 999)
)
def test_any_size(kind, channels, height, width, inner, images, states, seed):
    attention = layer(kind, channels, inner, seed=seed)
    maps, state = inputs(channels, height, width, images, states, seed=seed + 1)
    out = attention(maps, state)
    wanted = sca_numpy.attend_all(kind, arrays(attention), maps.numpy(), state.numpy())
    np.testing.assert_allclose(out.detach(), wanted, **CLOSE)
    channel, spatial = attention.weigh(attention.prepare(maps), state)
    for gate in (channel, spatial):
        if gate is not None:
            assert gate.min() > 0
            torch.testing.assert_close(gate.mean(2), torch.ones_like(gate[..., 0]), rtol=1e-13, atol=1e-13)


@given(st.sampled_from(list(KINDS)), st.permutations(range(12)), st.permutations(range(6)), st.integers(0, 999))
def test_moved_positions_and_channels_move_the_result(kind, positions, channels, seed):
    attention = layer(kind, seed=seed)
    maps, state = inputs(6, 4, 3, seed=seed + 1)
    out = attention(maps, state)
    moved = maps.flatten(2)[:, :, positions].unflatten(2, (4, 3))
    wanted = out.flatten(3)[..., positions].unflatten(3, (4, 3))
    torch.testing.assert_close(attention(moved, state), wanted, **CLOSE)
    other = copy.deepcopy(attention)
    if other.spatial is not None:
        other.spatial.weight.data = attention.spatial.weight.data[:, channels]
    torch.testing.assert_close(other(maps[:, channels], state), out[:, :, channels], **CLOSE)


@given(st.sampled_from(list(KINDS)), st.floats(1e-3, 1e6), st.integers(0, 999))
def test_large_scores_and_maps_stay_finite(kind, factor, seed):
    attention = layer(kind, dtype=torch.float32, seed=seed, size=factor)
    maps, state = inputs(dtype=torch.float32, seed=seed)
    out, found = gradients(attention, maps, state, torch.ones(2, 3, 6, 3, 2))
    assert out.isfinite().all()
    assert all(value.isfinite().all() for value in found.values())


def plain(attention, maps, states):
    """The same as one would write it in PyTorch: pooled attended maps (N, R, C)."""
    channel, spatial = attention.channel, attention.spatial

    def beta(means):
        inner = torch.tanh(means[..., None] * channel.weight + channel.bias + channel.query(states)[:, :, None])
        return (inner @ channel.vector).softmax(-1) * maps.shape[1]

    def alpha(rows):
        inner = torch.tanh(rows @ spatial.weight.t() + spatial.bias + spatial.query(states)[:, :, None])
        return (inner @ spatial.vector).softmax(-1) * rows.shape[2]

    rows = maps.flatten(2).transpose(1, 2)[:, None].expand(-1, states.shape[1], -1, -1)
    if attention.channel_first:
        rows = rows * beta(rows.mean(2))[:, :, None]
        return (rows if spatial is None else rows * alpha(rows)[..., None]).mean(2)
    rows = rows * alpha(rows)[..., None]
    return rows.mean(2) if channel is None else rows.mean(2) * beta(rows.mean(2))


def ours(attention, maps, states):
    prepared = attention.prepare(maps)
    return attention.pool(prepared, attention.weigh(prepared, states))


def saved(function, attention, maps, states):
    """Return the result, the shapes that are kept for the backward pass, and their bytes, without the parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in attention.parameters()}
    shapes, kept = [], {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            shapes.append(tuple(tensor.shape))
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor lives on, so no pointer comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = function(attention, maps, states)
    return result, shapes, sum(count for count, _ in kept.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_vectors_inside_tanh_are_not_kept(kind):
    channels, inner, images, states = 8, 64, 2, 5
    attention = layer(kind, channels, inner)
    maps, state = inputs(channels, 3, 4, images, states)
    maps.requires_grad_()
    result, shapes, count = saved(ours, attention, maps, state)
    wanted, plain_shapes, plain_count = saved(plain, attention, maps, state)
    torch.testing.assert_close(result, wanted, **CLOSE)
    large = images * states * inner * min(channels, 12)
    assert max(int(np.prod(shape)) for shape in shapes) < large <= max(int(np.prod(shape)) for shape in plain_shapes)
    assert count * 3 < plain_count
    _, shapes, _ = saved(lambda attention, *rest: attention(*rest), attention, maps, state)
    assert max(int(np.prod(shape)) for shape in shapes) < large


@pytest.mark.slow
def test_memory_in_the_papers_sizes(record_property):
    """The last layer of ResNet-152: C = 2048, 7 × 7 positions, k = 512; 64 sentences of 20 words."""
    attention = ww.SCA(2048, 1000, 512)
    images, sentences, words = 2, 64, 20
    maps = torch.rand(images, 2048, 7, 7, requires_grad=True)
    totals = {}
    for name, function in (("ours", ours), ("plain", plain)):
        counts = []
        for several in (1, 2):  # what is kept once for an image, and for each word
            state = torch.rand(images, several, 1000, requires_grad=True)
            counts.append(saved(function, attention, maps, state)[2] / images)
        word = counts[1] - counts[0]
        totals[name] = sentences * (counts[0] - word + words * word)
        record_property(f"{name}, one word", word)
        record_property(name, totals[name])
    assert totals["plain"] > 5.5e9
    assert totals["ours"] < 0.15e9
