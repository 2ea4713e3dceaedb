import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.errors import WhatwhereError
from whatwhere.layers import entry
from whatwhere.views import Look, capture, look

pytest.importorskip("pytorch_grad_cam")
Image = pytest.importorskip("PIL.Image")


def net(attention=None, stages=3, **options):
    torch.manual_seed(0)
    layers = []
    for i in range(stages):
        layers += [nn.Conv2d(8 if i else 3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
        if attention:
            layers.append(ww.create(attention, 8, **options))
            for parameter in layers[-1].parameters():
                nn.init.normal_(parameter)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


@pytest.fixture
def array():
    y, x = np.mgrid[0:40, 0:56]
    return np.stack([y * 6, x * 4, (x + y) * 2], 2).astype(np.uint8)


def pixels(path):
    with Image.open(path) as opened:
        return np.array(opened.convert("RGB"))


@pytest.mark.parametrize("attention", [*(name for name in ww.names() if entry(name).gated), None])
@pytest.mark.parametrize("stages", [1, 3])
def test_every_attention_gives_a_figure(tmp_path, array, attention, stages):
    model = net(attention, stages)
    found = look(model, array, size=32, title="a network")
    assert len(found.gates) == (stages if attention and ww.layers.entry(attention).gated else 0)
    assert found.grad_cam.shape == (32, 32)
    assert found.image.shape == (32, 32, 3)
    drawn = pixels(found.save(tmp_path / "look.png", dpi=100))
    height, width, _ = drawn.shape
    assert width == 720
    assert 200 < height < 1000
    assert (drawn[0] == 255).all(), "white around"
    assert drawn.std() > 20, "not blank"


def test_prediction_confidence_gates_and_cam(array):
    model = net("cbam").eval()
    found = look(model, array, classes=["ant", "bee", "cat", "dog"], size=32)
    x = torch.from_numpy(found.image).permute(2, 0, 1)[None].float() / 255
    with capture(model) as seen, torch.no_grad():
        chances = model((x - 0.5) / 0.25).softmax(1)[0]
    assert found.prediction == ["ant", "bee", "cat", "dog"][chances.argmax()]
    assert found.confidence == pytest.approx(chances.max().item(), abs=1e-6)
    assert [p for _, p in found.top] == pytest.approx(chances.sort(descending=True).values[:3].tolist(), abs=1e-6)
    assert found.target == found.prediction
    assert list(found.gates) == list(seen)
    for place, gates in seen.items():
        torch.testing.assert_close(found.gates[place].spatial, gates.spatial)
    assert [view.size for view in found.views] == [(16, 16), (8, 8), (4, 4)]
    assert {view.neutral for view in found.views} == {0.5}
    assert isinstance(found, Look)


@pytest.mark.parametrize(
    ("attention", "identity", "neutral"), [("bam", False, 1.5), ("bam", True, 1), ("sam", True, 1)]
)
def test_neutral_gates(array, attention, identity, neutral):
    assert look(net(attention, identity=identity), array, size=16).views[0].neutral == neutral


def test_target_by_name_and_number(array):
    classes = ["ant", "bee", "cat", "dog"]
    named = look(net(), array, classes=classes, target="cat", size=32)
    assert named.target == "cat"
    assert torch.equal(named.grad_cam, look(net(), array, target=2, size=32).grad_cam)
    assert look(net(), array, classes=classes, target="2", size=32).target == "cat", "as a command line gives it"
    assert not torch.equal(named.grad_cam, look(net(), array, target=0, size=32).grad_cam)


def test_all_kinds_of_images_are_the_same_image(tmp_path, array):
    Image.fromarray(array).save(tmp_path / "a.png")
    chw = torch.from_numpy(array).permute(2, 0, 1)
    kinds = [
        array,
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        Image.fromarray(array),
        chw,
        chw.float() / 255,
        chw[None],
    ]
    kinds.append(Image.fromarray(array).convert("RGBA"))
    found = [look(net(), kind, size=40) for kind in kinds]
    for other in found[1:]:
        assert (other.image == found[0].image).all()
        assert other.top == found[0].top
    assert (found[0].image == array[:, 8:48]).all(), "cut from the middle, not resampled"


def test_grey_images_and_turned_photographs(tmp_path, array):
    grey = look(net(), array[..., 0], size=40)
    assert (grey.image == look(net(), torch.from_numpy(array[..., 0])[None], size=40).image).all()
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(array).save(tmp_path / "turned.png", exif=exif)
    assert (look(net(), tmp_path / "turned.png", size=40).image == array[::-1, ::-1][:, 8:48]).all()


def test_short_side_is_resized():
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 200
    seen = look(net(), wide, size=32).image
    assert seen.shape == (32, 32, 3)
    assert (seen[:, 3:-3] > 190).all()
    assert look(net(), np.zeros((7, 5, 3), np.uint8), size=32).image.shape == (32, 32, 3)


def test_preprocessing_is_the_models_own(array):
    model = net()
    default = look(model, array)
    assert default.image.shape == (224, 224, 3)
    model.pretrained_cfg = {"input_size": (3, 48, 48), "mean": (0.1, 0.2, 0.3), "std": (0.3, 0.3, 0.4)}
    own = look(model, array)
    assert own.image.shape == (48, 48, 3)
    assert own.top == look(net(), array, size=48, mean=(0.1, 0.2, 0.3), std=(0.3, 0.3, 0.4)).top
    assert own.top != look(net(), array, size=48).top


def test_broken_images(tmp_path, array):
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(content, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(content.getvalue()[:900])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, words in [
        ("cut.jpg", "cannot be read"),
        ("text.jpg", "not an image"),
        ("empty.png", "cannot be read: empty file"),
        ("none.png", "cannot be read: there is no such file"),
        (".", "cannot be read: it is a folder"),
    ]:
        with pytest.raises(WhatwhereError, match=words):
            look(net(), tmp_path / name, size=32)
    with pytest.raises(WhatwhereError, match=r"cut\.jpg cannot be read: image file is truncated"):
        look(net(), Image.open(tmp_path / "cut.jpg"), size=32)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.randn(3, 8, 8) * 3, "not yet normalised"),
        (torch.full((3, 8, 8), float("nan")), "must be in"),
        (torch.zeros(2, 3, 8, 8), "one image"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "uint8"),
        (torch.zeros(3, 0, 8), "one image"),
        (np.zeros((8, 8, 3)), "uint8"),
        (np.zeros((8, 8, 2), np.uint8), "shape"),
        (7, "got int"),
    ],
)
def test_what_is_no_image(image, words):
    with pytest.raises(WhatwhereError, match=words):
        look(net(), image, size=32)


def test_wrong_options(array):
    for options, words in [
        ({"classes": ["a", "b"]}, "4 classes, but there are 2 names"),
        ({"classes": "imagenet"}, "1000 names"),
        ({"classes": "cifar"}, "'imagenet'"),
        ({"target": 4}, "from 0 to 3"),
        ({"target": "dg", "classes": ["ant", "bee", "cat", "dog"]}, "did you mean 'dog'"),
        ({"size": 0}, "size"),
        ({"mean": (0.5,)}, "each of R, G, B"),
        ({"std": (0.5, 0, 0.5)}, "above 0"),
    ]:
        with pytest.raises(WhatwhereError, match=words):
            look(net(), array, **{"size": 32, **options})
    with pytest.raises(WhatwhereError, match="classifier"):
        look(nn.Conv2d(3, 4, 3), array, size=32)


@pytest.mark.parametrize("fails", [False, True])
def test_model_is_as_before(array, fails):
    model = net("cbam").train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    gradient = model[0].bias.grad = torch.ones(8)

    def state():
        return [
            (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m))) for m in model.modules()
        ], [p.requires_grad for p in model.parameters()]

    before = state()
    buffers = [b.clone() for b in model.buffers()]
    if fails:
        with pytest.raises(WhatwhereError):
            look(model, array, size=32, target=17)
    else:
        look(model, array, size=32)
    assert state() == before
    assert model[0].bias.grad is gradient
    assert all(map(torch.equal, buffers, model.buffers()))


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg", "PNG"])
def test_saved_twice_is_the_same_file(tmp_path, array, suffix):
    model = net("cbam", 2)
    first = look(model, array, size=32).save(tmp_path / "new" / f"a.{suffix}", dpi=60)
    second = look(model, array, size=32).save(str(tmp_path / f"b.{suffix}"), dpi=60)
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[suffix.lower()]
    assert first.read_bytes().startswith(start)
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in (tmp_path / "new").iterdir()] == [first.name], "no temporary file stays"


def test_save_errors(tmp_path, array):
    found = look(net(), array, size=32)
    for name in ("a.jpg", "a", "a.png.gz"):
        with pytest.raises(WhatwhereError, match=r"\.png, \.pdf, \.svg"):
            found.save(tmp_path / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(WhatwhereError, match="cannot be written"):
        found.save(tmp_path / "file" / "a.png")


def test_no_display_and_no_global_figures(array):
    look(net("cbam"), array, size=32)
    pyplot = pytest.importorskip("matplotlib.pyplot")
    assert pyplot.get_fignums() == []
    script = """
import sys, torch, whatwhere.views as views
assert not {"matplotlib", "timm", "torchvision", "PIL", "pytorch_grad_cam"} & set(sys.modules), sorted(sys.modules)
import numpy, whatwhere.views.figure as figure, whatwhere as ww
gates = ww.CBAM(8).gates(torch.rand(1, 8, 7, 7))
gates = ww.Gates(*(None if g is None else g.detach() for g in gates))
seen = [views.View(str(i), gates, (i, i), 0.5, 0.5) for i in range(4)]
image = numpy.zeros((9, 9, 3), numpy.uint8)
found = views.Look("cat", 0.9, [("cat", 0.9), ("dog", 0.1)], "cat", torch.rand(9, 9), seen, image)
figure.draw(found).savefig("/dev/null", format="png")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_a_network_whose_attentions_have_no_gates_shows_grad_cam_alone(tmp_path, array):
    class Shift(ww.layers.Attention):
        gates = None

        def forward(self, x):
            return x + x.mean((2, 3), keepdim=True)

    model = net()
    model.insert(3, Shift(8))
    found = look(model, array, size=32)
    assert found.gates == {}
    assert found.grad_cam.shape == (32, 32)
    assert pixels(found.save(tmp_path / "look.png", dpi=50)).std() > 20
