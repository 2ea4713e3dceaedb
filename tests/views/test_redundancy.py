"""Maps that follow from others by construction, and the same numbers from least squares in numpy."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import whatwhere as ww
from whatwhere import cli
from whatwhere.errors import WhatwhereError
from whatwhere.views import redundancy

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")

BLUR = torch.tensor([[1.0, 2, 1], [0, 1, 0], [-2, 0, 3]]) / 3


@pytest.fixture
def images():
    return torch.randn(40, 3, 14, 12, generator=torch.Generator().manual_seed(1))


def constructed():
    """Maps of 5×5 filters: 0 noise, 1 twice 0 plus a constant, 2 noise, 3 is 2 filtered by 3×3, 4 noise, 5 dead."""
    conv = nn.Conv2d(3, 6, 5)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[:, :, 1:4, 1:4] = torch.randn(6, 3, 3, 3, generator=generator)
        conv.bias.zero_()
        conv.weight[1], conv.bias[1] = 2 * conv.weight[0], 1
        conv.weight[3] = F.conv2d(conv.weight[2][:, None], BLUR.flip(0, 1)[None, None], padding=1)[:, 0]
        conv.weight[5], conv.bias[5] = 0, 0.5
    return nn.Sequential(conv)


def test_maps_that_follow_from_others(images):
    # At the border, 8 % of the positions, map 3 is no function of map 2, which is taken as 0 beyond it.
    found = redundancy(constructed(), images.repeat(1, 1, 4, 4), after="convolution")
    (layer,) = found.layers
    assert (layer.module, layer.measured_at, layer.maps, layer.size, layer.constant) == ("0", "0", 6, (52, 44), 1)
    assert layer.positions == 40 * 32
    copied, filtered = layer.copied, layer.filtered
    assert copied.r2[:2].min() > 0.9999
    assert copied.source[:2].tolist() == [1, 0]
    assert filtered.r2[3] > 0.95
    assert filtered.source[3] == 2
    assert copied.r2[3] < filtered.r2[3] - 0.1
    assert copied.r2[4] < 0.3
    assert filtered.r2[5].isnan()
    assert copied.r2[5].isnan()
    assert copied.source[5] == filtered.source[5] == -1
    assert copied.share() == pytest.approx(2 / 5)
    assert filtered.share() >= 3 / 5


def test_independent_maps_do_not_follow(images):
    conv = nn.Conv2d(8, 8, 1, bias=False)
    nn.init.eye_(conv.weight.data[:, :, 0, 0])
    noise = torch.randn(64, 8, 12, 12, generator=torch.Generator().manual_seed(2))
    (layer,) = redundancy(conv, noise).layers
    assert layer.copied.r2.max() < 0.02
    assert layer.filtered.r2.max() < 0.05


def test_r2_is_that_of_least_squares(images):
    """With 32 positions or fewer a map all of them are taken, so that nothing is drawn."""
    small = images[:, :, :6, :5]
    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU()).eval()
    (layer,) = redundancy(model, torch.split(small, 7)).layers
    with torch.no_grad():
        maps = model(small).double().numpy()
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))

    def r2(columns, y):
        a = np.stack([*columns, np.ones_like(y)], 1)
        rest = y - a @ np.linalg.lstsq(a, y, rcond=None)[0]
        return 1 - rest.var() / y.var()

    for target in range(5):
        y = maps[:, target].ravel()
        others = [i for i in range(5) if i != target]
        copies = [r2([maps[:, i].ravel()], y) for i in others]
        filters = [
            r2([padded[:, i, a : a + 6, b : b + 5].ravel() for a in range(3) for b in range(3)], y) for i in others
        ]
        assert float(layer.copied.r2[target]) == pytest.approx(max(copies), abs=1e-9)
        assert int(layer.copied.source[target]) == others[int(np.argmax(copies))]
        assert float(layer.filtered.r2[target]) == pytest.approx(max(filters), abs=1e-4)
    assert layer.copied.median == pytest.approx(np.median(layer.copied.r2.numpy()))


class Block(nn.Module):
    """One ReLU for two convolutions, defined in another order than they run; an add after the second."""

    def __init__(self):
        super().__init__()
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.gate = nn.Conv2d(6, 1, 3, padding=1)
        self.squeezed = nn.Conv2d(6, 6, 1)
        self.unused = nn.Conv2d(6, 6, 1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.third = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        x = self.relu(self.first(x))
        x = self.relu(self.norm(self.second(x))) + x
        x = x * self.gate(x) * self.squeezed(x.mean((2, 3), keepdim=True))
        return F.relu(self.third(x)).mean((2, 3))


def test_where_maps_are_measured(images):
    torch.manual_seed(0)
    model = Block().eval()
    found = redundancy(model, images)
    assert [(one.module, one.measured_at) for one in found.layers] == [
        ("first", "relu"),
        ("second", "relu"),
        ("third", "third"),  # no module makes what F.relu returns
    ]
    seen = []
    model.relu.register_forward_hook(lambda _, __, y: seen.append(y.clone()))
    with torch.no_grad():
        model(images[:1])
    for number, name in enumerate(("first", "second")):  # each from its own call of the shared ReLU
        for pair in found.pairs[name]:
            assert torch.equal(pair.target_map, seen[number][0, pair.target])
            assert torch.equal(pair.source_map, seen[number][0, pair.source])
    plain = redundancy(model, images, after="convolution")
    assert [(one.module, one.measured_at) for one in plain.layers] == [(n, n) for n in ("first", "second", "third")]
    assert [one.module for one in redundancy(model, images, ["sec*", "third"]).layers] == ["second", "third"]
    assert found["second"] is found.layers[1]
    with pytest.raises(KeyError, match="was not measured"):
        found["gate"]


def test_the_fit_that_is_shown_has_the_r2_that_is_said(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1))
    found = redundancy(model, images[:1].repeat(16, 1, 1, 1).repeat(1, 1, 3, 3))
    for pair in found.pairs["0"]:
        missed = (pair.target_map - pair.made).var() / pair.target_map.var()
        assert float(1 - missed) == pytest.approx(pair.r2, abs=0.15)


@pytest.mark.parametrize("wrap", [lambda m: m, torch.compile, nn.Sequential], ids=["plain", "compiled", "nested"])
def test_the_model_stays_as_it_was(images, wrap):
    model = Block().train()
    model.second.weight.requires_grad_(False)
    model(images).sum().backward()
    before = copy.deepcopy(model.state_dict())
    gradient = model.first.weight.grad.clone()
    random = torch.random.get_rng_state()
    found = redundancy(wrap(model), images)
    assert len(found.layers) == 3
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model.first.weight.grad, gradient)
    assert model.first.weight.requires_grad
    assert not model.second.weight.requires_grad
    assert torch.equal(torch.random.get_rng_state(), random)


def test_statistics_of_the_images(images):
    """Untrained batch normalisations normalise as they would after one pass over the images; then as before."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6))
    shifted = images + 5
    other = copy.deepcopy(model).train()
    for norm in (other[1], other[4]):
        norm.momentum = 1.0
    with torch.no_grad():
        other(shifted)
    before = copy.deepcopy(model.state_dict())
    found, want = redundancy(model, shifted, renew_statistics=True), redundancy(other, shifted)
    plain = redundancy(model, shifted)
    for one, expected, without in zip(found.layers, want.layers, plain.layers, strict=True):
        assert torch.allclose(one.copied.r2, expected.copied.r2, atol=1e-5)
        assert not torch.allclose(one.copied.r2, without.copied.r2, atol=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert model[1].momentum == 0.1


def test_attention_that_is_attached_is_not_measured(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
    plain = redundancy(model, images, after="convolution")
    ww.insert(model, "se", at="norm", example=images[:1], identity=False)
    attended = redundancy(model, images, after="convolution", at="0")
    assert torch.equal(attended.layers[0].copied.r2, plain.layers[0].copied.r2)


def test_table_and_figure(images, tmp_path):
    torch.manual_seed(0)
    model, other = constructed(), nn.Sequential(nn.Conv2d(3, 6, 3))
    counts = []
    beside = redundancy(other, images)
    found = redundancy(model, images, beside={"random weights": beside}, name="constructed", on_batch=counts.append)
    assert counts == [40]
    lines = str(found).splitlines()
    assert lines[0].split()[:3] == ["convolution", "maps", "size"]
    assert lines[2].split()[:4] == ["0", "6", "10×8", "1"]
    assert "on 40 images" in lines[-2]
    with Image.open(found.save(tmp_path / "a.png")) as drawn:
        assert 990 < drawn.width < 1020
        assert np.asarray(drawn.convert("L")).std() > 20
    assert (tmp_path / "a.png").stat().st_size < 400_000
    with pytest.raises(WhatwhereError, match=r"\.png"):
        found.save(tmp_path / "a.jpg")


def test_a_layer_of_dead_maps(images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3))
    nn.init.zeros_(model[0].weight)
    found = redundancy(model, images)
    assert [layer.constant for layer in found.layers] == [4, 3]
    assert found.pairs == {"0": [], "1": []}
    assert np.isnan(found.layers[0].copied.median)
    assert np.isnan(found.share()).all()
    assert "–" in str(found)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": torch.randn(15, 3, 9, 9)}, "15 images, and this needs at least 16"),
        ({"data": torch.randn(16, 4, 9, 9)}, "fails on the images of data"),
        ({"data": [torch.randn(9, 3, 9, 9), torch.randn(9, 4, 9, 9)]}, "fails on the images of data"),
        ({"data": []}, "no images"),
        ({"data": torch.zeros(16, 3, 9, 9, dtype=torch.uint8)}, "floating"),
        ({"data": torch.full((16, 3, 9, 9), torch.nan)}, "NaN"),
        ({"after": "relu"}, "must be 'activation' or 'convolution'"),
        ({"at": "secnd"}, "did you mean 'second'"),
        ({"at": "gate"}, "nothing to compare"),
        ({"at": "unused"}, "nothing to compare"),
        ({"model": nn.Flatten()}, "matches no convolution"),
        ({"model": "resnet18"}, "Module"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_mistakes_are_explained(change, says):
    arguments = {"model": Block(), "data": torch.randn(16, 3, 9, 9), **change}
    with pytest.raises(WhatwhereError, match=says):
        redundancy(**arguments)


SCENES = "scenes:size=20:train=40:test=20"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    words = ["train", "classify", "--data", SCENES, "--epochs", "1", "--batch-size", "20", "--out", str(folder)]
    assert cli.main(words) == 0
    return folder


@pytest.fixture
def run(capsys):
    def call(*words, code=0):
        capsys.readouterr()
        try:
            status = cli.main(["redundancy", *map(str, words)])
        except SystemExit as ended:
            status = ended.code
        said = "".join(capsys.readouterr())
        assert status == code, said
        return " ".join(said.split())

    return call


def test_command_on_a_run(trained, run, tmp_path):
    out = tmp_path / "made" / "r.png"
    said = run(trained, "--untrained", "--images", "20", "--out", out, "--at", "stages.*")
    assert "trained convolution maps" in said
    assert "random weights convolution maps" in said
    assert "stages.0.0" in said
    assert "on 20 images" in said
    assert Image.open(out).width > 900


def test_command_on_a_network_by_name(run, tmp_path):
    pytest.importorskip("timm")
    out = tmp_path / "r.svg"
    said = run("small-vgg", "--data", SCENES, "--images", "16", "--after", "convolution", "--out", out)
    assert "after the convolution, on 16 images" in said
    assert out.exists()


def test_command_explains_mistakes(trained, run, tmp_path):
    out = tmp_path / "r.png"
    for words, says in (
        ((trained, "--weights", "a.pth", "--size", "32"), "leave out --weights, --size"),
        ((trained, "--at", "stags.*"), "matches no convolution"),
        ((trained, "--images", "8"), "at least 16"),
        ((trained, "--images", "0"), "at least 1"),
        (("runs/nowhere",), "not a run folder"),
        (("small-resnt",), "did you mean 'small-resnet'"),
        (("small-resnet", "--untrained"), "random weights already"),
        (("small-resnet", "--weights", "nowhere.pth", "--data", SCENES), "nowhere.pth"),
    ):
        assert says in run(*words, "--out", out, code=2)
    assert "must end in .png" in run(trained, "--out", tmp_path / "r.jpg", code=2)
    assert "whatwhere redundancy runs/classify" in run("--help").split("usage:")[1]
    assert list(tmp_path.iterdir()) == []
