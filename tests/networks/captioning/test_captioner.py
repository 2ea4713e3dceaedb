"""The captioner against NumPy in the official layout, its controls, and what it promises of its encoder."""

import copy
import functools
import pickle

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

import whatwhere as ww
from whatwhere.graph.cut import cut
from whatwhere.graph.operations import Graph
from whatwhere.networks.captioning import captioner
from whatwhere.networks.captioning.attention import KINDS
from whatwhere.networks.captioning.captioner import Captioner, CaptionerShape, State

from ...layers.sca_numpy import derivatives
from . import captioner_numpy

CLOSE = {"rtol": 1e-9, "atol": 1e-10}
SIZES = {"vocabulary": 9, "hidden": 12, "word_dim": 6, "attention_dim": 5}
WORDS = torch.tensor([[3, 8, 1, 0], [5, 5, 2, 4]])
LAYERS = {"none": None, "soft": "S", "s": "S", "c": "C", "s-c": "S-C", "c-s": "C-S"}
"""The kinds of attention by the names of the NumPy code."""


def images(count=2, height=64, width=96):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def trained(model):
    """Draw the decoder's parameters so that gates are far from 1 and no number is a special one."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("encoder."):
                size = 1.5 / parameter.shape[1] ** 0.5 if parameter.ndim == 2 else 0.7
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
        if model.context_gate is not None:
            model.context_gate.linear.weight.mul_(3)
    return model


def arrays(model):
    return {name: value.detach().double().numpy() for name, value in model.state_dict().items()}


@functools.cache
def built(kind="c-s", points=("stages.2.0.relu1", "stages.2"), make=None, train=("stages.2",), **sizes):
    """Build a captioner on a small network, of which some modules are trained, in float64; no test changes it."""
    torch.manual_seed(0)
    network = ww.build(ww.ModelConfig("small-resnet")) if make is None else make()
    network.eval().requires_grad_(False)
    for name in train:
        network.get_submodule(name).requires_grad_(True)
    shape = CaptionerShape(**{**SIZES, **sizes}, attention=kind)
    return trained(Captioner(network, cut(Graph(network, images(1)), points), shape)).double().eval()


def build(*args, **options):
    """Build a captioner for one test."""
    return copy.deepcopy(built(*args, **options))


ONE = ("stages.2",)
TWO = ("stages.2.0.relu1", "stages.2")
THREE = ("stages.1", *TWO)
BUILT = [(kind, ONE) for kind in KINDS]
BUILT += [(kind, points) for kind in ("s", "c", "s-c", "c-s") for points in (TWO, THREE)]
EACH = pytest.mark.parametrize(("kind", "points"), BUILT, ids=[f"{kind}, {len(points)}" for kind, points in BUILT])


@functools.cache
def official():
    """The official layout: torchvision's ResNet-152, of which the last 1×1 kernel is trained.

    What is frozen computes in float32, all that comes after it in float64.
    """
    torch.manual_seed(0)
    network = torchvision.models.resnet152()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # statistics of the images, so that no map is huge
    block = network.layer4[2]
    for parameter in (*block.bn2.parameters(), *block.bn3.parameters()):
        nn.init.uniform_(parameter, 0.5, 1)
    with torch.no_grad():
        network.train()(images(2))
    network.eval().requires_grad_(False)
    block.conv3.requires_grad_(True)
    parts = cut(Graph(network, images(1)), ["layer4.2.relu_1", "layer4.2"])
    model = trained(Captioner(network, parts, CaptionerShape(**SIZES))).double().eval()
    for frozen in (network.conv1, network.bn1, network.layer1, network.layer2, network.layer3):
        frozen.float()
    for frozen in (*network.layer4[:2], block.conv1, block.bn1, block.conv2, block.bn2):
        frozen.float()
    return model


@functools.cache
def official_maps():
    """Return the first attended maps and the shortcuts of both images, (2, C, m), made by the network's own modules."""
    network = official().encoder
    with torch.no_grad():
        x = network.maxpool(network.relu(network.bn1(network.conv1(images()))))
        shortcut = network.layer4[:2](network.layer3(network.layer2(network.layer1(x))))
        block = network.layer4[2]
        y = torch.relu(block.bn1(block.conv1(shortcut)))
        first = torch.relu(block.bn2(block.conv2(y)))
    assert first.shape == (2, 512, 2, 3)
    assert shortcut.shape == (2, 2048, 2, 3)
    return first.flatten(2).double().numpy(), shortcut.flatten(2).double().numpy()


def official_logits(w, drop=lambda z: z, count=2, length=4):
    return np.array(
        [
            captioner_numpy.logits(w, *captioner_numpy.two_layers("C-S", w, first, shortcut), words[:length], drop)
            for first, shortcut, words in list(zip(*official_maps(), WORDS.numpy(), strict=True))[:count]
        ]
    )


def test_the_official_layout_is_that_of_the_formulas():
    model = official()
    with torch.no_grad():
        found = model(images(), WORDS)
        encoded, _ = model.encode(images())
        gates = model.attend(encoded, torch.randn(2, 1, 12, dtype=torch.float64))[1]
    wanted = official_logits(arrays(model))
    np.testing.assert_allclose(found, wanted, **CLOSE)
    assert wanted.std(2).min() > 0.1
    assert [tuple(gate.shape) for pair in gates for gate in pair] == [
        *((2, 1, 512), (2, 1, 2, 3), (2, 1, 2048), (2, 1, 2, 3))
    ]
    assert all((gate - 1).abs().max() > 0.1 for pair in gates for gate in pair)  # they do something


def test_gradients_in_the_official_layout_are_those_of_the_formulas():
    model = official()
    names = ["encoder.layer4.2.conv3.weight", "first_h.weight", "first_c.bias", "words.weight", "lstm.weight_ih"]
    names += ["lstm.weight_hh", "lstm.bias_hh", "hidden_to_word.weight", "output.weight"]
    for layer in ("attention.0", "attention.1"):
        names += [f"{layer}.channel.{one}" for one in ("weight", "bias", "query.weight", "vector")]
        names += [f"{layer}.spatial.{one}" for one in ("weight", "query.weight", "vector")]
    parameters = dict(model.named_parameters())
    weight = torch.randn(3, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = (model(images(), WORDS)[0, :3] * weight).sum()
    found = dict(zip(names, torch.autograd.grad(loss, [parameters[name] for name in names]), strict=True))
    entries = {name: [found[name].abs().argmax().item()] for name in names}
    entries[names[0]] += [12345, 2048 * 512 - 1]
    w = arrays(model)
    changed = {name: w[name] for name in names}

    def value(some):
        return (official_logits({**w, **some}, count=1, length=3) * weight.numpy()).sum()

    wanted = derivatives(value, changed, entries)
    for name in names:
        np.testing.assert_allclose(found[name].reshape(-1)[entries[name]], wanted[name], err_msg=name, **CLOSE)
        assert abs(wanted[name][0]) > 1e-6, name


def test_dropout_is_where_the_official_code_has_it(monkeypatch):
    model, calls = official(), []

    def drop(z, share, training):
        calls.append((share, training, z.shape[-1]))
        return 0.3 * z + z * z

    monkeypatch.setattr(captioner.F, "dropout", drop)
    with torch.no_grad():
        try:
            found = model.train()(images(), WORDS)
        finally:
            model.eval()
    assert calls == [(0.5, True, 12), (0.5, True, 6)]
    np.testing.assert_allclose(found, official_logits(arrays(model), lambda z: 0.3 * z + z * z), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_and_controls_are_those_of_the_formulas(kind):
    model = built(kind, ONE)
    assert (len(model.attention), model.context_gate is None) == (int(kind != "none"), kind != "soft")
    with torch.no_grad():
        found = model(images().double(), WORDS)
        last = model.cut.before.run(model.encoder, model.frozen_values(images().double()))[model.cut.points[0]]
    w = arrays(model)
    wanted = [
        captioner_numpy.logits(w, *captioner_numpy.one_layer(LAYERS[kind], w, map_), words)
        for map_, words in zip(last.flatten(2).numpy(), WORDS.numpy(), strict=True)
    ]
    np.testing.assert_allclose(found, wanted, **CLOSE)


def test_soft_attention_is_s_with_a_gate():
    soft, plain = build("soft", ONE), build("s", ONE)
    plain.load_state_dict(soft.state_dict(), strict=False)
    encoded, state = soft.encode(images().double())
    one, other = (model.attend(encoded, state.h)[0] for model in (soft, plain))
    torch.testing.assert_close(other.norm(dim=2), torch.ones(2, 1, dtype=torch.float64))
    gate = torch.sigmoid(state.h @ soft.context_gate.linear.weight[0] + soft.context_gate.linear.bias)
    torch.testing.assert_close(one, other * gate[..., None])
    assert (gate[0] - gate[1]).abs().item() > 1e-4


@EACH
def test_forward_is_step_by_step(kind, points):
    model, inputs = built(kind, points), images().double()
    with torch.no_grad():
        wanted = model(inputs, WORDS)
        encoded, state = model.encode(inputs)
        before = None
        for position in range(WORDS.shape[1]):
            logits, state = model.step(encoded, state, before)
            assert logits.shape == (2, 1, 9)
            torch.testing.assert_close(logits[:, 0], wanted[:, position], **CLOSE)
            before = WORDS[:, position, None]
        assert torch.equal(model(inputs, WORDS[:, :2]), wanted[:, :2])
        last = WORDS.clone()
        last[:, -1] = 7  # the last word is not an input
        assert torch.equal(model(inputs, last), wanted)


@EACH
def test_several_sentences_of_an_image_are_one_by_one(kind, points):
    model, inputs = built(kind, points), images().double()
    generator = torch.Generator().manual_seed(3)
    h, c = (torch.randn(2, 3, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    words = torch.randint(0, 9, (2, 3), generator=generator)
    with torch.no_grad():
        encoded, first = model.encode(inputs)
        assert first.h.shape == first.c.shape == (2, 1, 12)
        logits, state = model.step(encoded, State(h, c), words)
        context, gates = model.attend(encoded, h)
        for image in range(2):
            own, start = model.encode(inputs[image, None])
            torch.testing.assert_close(start.h, first.h[image, None], **CLOSE)
            for place in range(3):
                some = slice(image, image + 1), slice(place, place + 1)
                alone, after = model.step(own, State(h[some], c[some]), words[some])
                torch.testing.assert_close(logits[some], alone, **CLOSE)
                torch.testing.assert_close(state.h[some], after.h, **CLOSE)
                torch.testing.assert_close(state.c[some], after.c, **CLOSE)
                own_context, own_gates = model.attend(own, h[some])
                torch.testing.assert_close(context[some], own_context, **CLOSE)
                for pair, own_pair in zip(gates, own_gates, strict=True):
                    for gate, own_gate in zip(pair, own_pair, strict=True):
                        assert (gate is None) == (own_gate is None)
                        if gate is not None:
                            torch.testing.assert_close(gate[some], own_gate, **CLOSE)
                            axes = tuple(range(2, gate.ndim))
                            torch.testing.assert_close(gate.mean(axes), torch.ones_like(gate.mean(axes)))
    assert len(gates) == len(model.attention)


def test_no_map_is_copied_for_several_sentences_of_the_first_layer():
    model = built("c-s", ONE)
    encoded, state = model.encode(images().double())
    many = state.select(torch.zeros(2, 5, dtype=torch.int64))
    model.step(encoded, many, None)
    assert len(encoded.prepared.maps) == 2
    assert all(len(value) == 2 for value in encoded.values.values())


def test_the_encoder_stays_in_evaluation_mode_and_its_trained_part_learns():
    model = build("c-s", TWO)
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    assert model.train() is model
    assert model.training
    assert model.lstm.training
    assert not any(module.training for module in model.encoder.modules())
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(images().double(), WORDS).logsumexp(-1).sum().backward()
        optimizer.step()
    for name, parameter in model.encoder.named_parameters():
        assert (parameter.grad is not None) == name.startswith("stages.2."), name
        if parameter.grad is not None:
            assert parameter.grad.abs().max() > 0, name
    for name, value in model.encoder.state_dict().items():
        learned = name.startswith("stages.2.") and "running" not in name and "num_batches" not in name
        assert torch.equal(before[name], value) != learned, name
    assert all(one.grad is not None for one in model.parameters() if one.requires_grad)
    model.eval()
    assert not any(module.training for module in model.modules())


def test_the_shortcut_inside_a_block_takes_part_in_learning():
    """The gradient of what makes the unattended shortcut comes through every word."""
    model = build("c-s", TWO, train=("stages.2.0.shortcut",))
    model(images().double(), WORDS)[:, 3].square().sum().backward()
    first = {name: one.grad.clone() for name, one in model.encoder.named_parameters() if one.grad is not None}
    assert set(first) == {f"stages.2.0.shortcut.{one}" for one in ("0.weight", "1.weight", "1.bias")}
    weight = model.encoder.stages[2][0].shortcut[1].bias
    for entry in (0, 5):
        values = []
        for move in (1e-5, -1e-5):
            with torch.no_grad():
                weight[entry] += move
                values.append(model(images().double(), WORDS)[:, 3].square().sum().item())
                weight[entry] -= move
        slope = (values[0] - values[1]) / 2e-5
        assert slope == pytest.approx(first["stages.2.0.shortcut.1.bias"][entry].item(), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("train", [(), ("stages.2",), ("",)], ids=["frozen", "last stage", "all"])
@pytest.mark.parametrize("kind", ["none", "c-s"])
def test_frozen_values_take_the_place_of_images(kind, train):
    model = build(kind, ONE if kind == "none" else THREE[1:], train=train)
    inputs = images().double()
    values = model.frozen_values(inputs)
    assert set(values) == set(model.cut.frozen.gives)
    kept = {name: value.clone() for name, value in values.items()}
    wanted = model(inputs, WORDS)
    for _ in range(2):
        assert torch.equal(model(values, WORDS), wanted)
    assert all(torch.equal(kept[name], value) for name, value in values.items())
    half = {name: value.half() for name, value in values.items()}
    torch.testing.assert_close(model(half, WORDS), wanted, rtol=0.02, atol=0.02)
    assert model(half, WORDS).dtype == torch.float64


def test_a_map_before_an_activation_in_place_is_attended_as_it_is():
    model = build(points=("layer4.1.bn1", "layer4.1"), make=torchvision.models.resnet18, train=())
    inputs = images().double()
    first = model.cut.before.run(model.encoder, model.frozen_values(inputs))["layer4_1_bn1"]
    assert first.min() < 0
    encoded, state = model.encode(inputs)
    assert torch.equal(encoded.prepared.maps, first.flatten(2).transpose(1, 2))
    channel, spatial = model.attend(encoded, state.h)[1][0]
    wanted = model.attention[0].gates(first, state.h[:, 0])
    torch.testing.assert_close(channel[:, 0], wanted.channel[:, :, 0, 0])
    torch.testing.assert_close(spatial, wanted.spatial)


def test_networks_with_bare_parameters():
    points = ("stages.3.blocks.1.conv_dw", "stages.3")
    model = build(points=points, make=lambda: timm.create_model("convnext_atto"), train=())
    encoded, state = model.encode(images().double())
    many = state.select(torch.zeros(2, 3, dtype=torch.int64))
    logits, _ = model.step(encoded, many, None)
    torch.testing.assert_close(logits, model.step(encoded, state, None)[0].expand(-1, 3, -1), **CLOSE)


@EACH
def test_copies_and_state_dicts(kind, points):
    model, inputs = built(kind, points), images().double()
    with torch.no_grad():
        wanted = model(inputs, WORDS)
        model_again = build(kind, points)
        model_again.reset_parameters()
        assert not torch.equal(model_again(inputs, WORDS), wanted)
        model_again.load_state_dict(model.state_dict())
        for same in (model_again, pickle.loads(pickle.dumps(model))):
            assert torch.equal(same(inputs, WORDS), wanted)
    assert not any(name.startswith("encoder.head") for name in model.state_dict())


def test_autocast():
    model, inputs = build("c-s", TWO).float(), images()
    with torch.no_grad():
        wanted = model(inputs, WORDS)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(inputs, WORDS)
    torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.1)


def test_state_select():
    state = State(torch.arange(12.0).view(2, 3, 2), -torch.arange(12.0).view(2, 3, 2))
    chosen = state.select(torch.tensor([[2, 0], [1, 1]]))
    assert chosen.h.tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]
    assert torch.equal(chosen.c, -chosen.h)


def test_the_papers_start():
    model = build("c-s", ONE, start="paper", hidden=64, word_dim=64, attention_dim=64)
    model.reset_parameters()
    eye = torch.eye(64, dtype=torch.float64)
    square = [*model.lstm.weight_hh.chunk(4), model.hidden_to_word.weight, model.attention[0].channel.query.weight]
    for weight in (*square, model.attention[0].spatial.query.weight):
        torch.testing.assert_close(weight @ weight.T, eye, rtol=0, atol=1e-6)
    for weight in (model.output.weight, model.lstm.weight_ih, model.words.weight):
        if weight.shape[0] != weight.shape[1]:
            rows = weight.chunk(4)[0] if weight is model.lstm.weight_ih else weight
            assert rows.std().item() == pytest.approx(0.01, rel=0.15)
    for name, parameter in model.named_parameters():
        if "bias" in name and not name.startswith("encoder."):
            assert parameter.abs().max() == 0, name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "cs"}, "attention='cs': must be one of none, soft, s, c, s-c, c-s; did you mean 'c-s'?"),
        ({"hidden": 0}, "hidden=0: must be at least 1"),
        ({"word_dim": -2}, "word_dim=-2: must be at least 1"),
        ({"attention_dim": 0}, "attention_dim=0: must be at least 1"),
        ({"dropout": 1.0}, "dropout=1.0: must be from 0 up to, but not, 1"),
        ({"dropout": -0.1}, "dropout=-0.1: must be from 0"),
        ({"start": "papers"}, "start='papers': must be 'scaled' or 'paper'"),
        ({"vocabulary": 1}, "vocabulary=1: a captioner needs the end of a sentence and a word"),
    ],
)
def test_wrong_sizes(options, message):
    with pytest.raises(ww.WhatwhereError, match=message):
        CaptionerShape(**{"vocabulary": 9, **options})


@pytest.mark.parametrize("kind", ["none", "soft"])
def test_controls_have_one_map(kind):
    with pytest.raises(ww.WhatwhereError, match=f"attention '{kind}' looks at one map only, not at 2"):
        build(kind, TWO)
