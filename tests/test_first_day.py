"""A newcomer's first day: what the README promises, in the order in which somebody tries it, and typical mistakes."""

import subprocess
import sys
import warnings

import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

import whatwhere as ww


def of_torchvision():
    return torchvision.models.resnet18(num_classes=4)


def of_timm():
    return pytest.importorskip("timm").create_model("efficientnet_lite0", num_classes=4)


def of_smp():
    smp = pytest.importorskip("segmentation_models_pytorch")
    return smp.Unet("resnet18", encoder_weights=None, classes=4)


IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def train(model, steps=2):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(IMAGES).square().mean().backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("make", [of_torchvision, of_timm, of_smp])
def test_insert_train_save_load_remove(make, tmp_path):
    torch.manual_seed(0)
    model = make().eval()
    want = model(IMAGES)
    assert ww.insert(model, "CBAM", example=IMAGES).inserted
    assert torch.equal(model(IMAGES), want)
    start = {name: p.clone() for name, p in model.named_parameters() if ".attention." in name}
    train(model)
    moved = [name for name, p in model.named_parameters() if name in start and not torch.equal(p, start[name])]
    assert moved
    torch.save(model.state_dict(), tmp_path / "m.pth")
    other = make().eval()
    ww.insert(other, "cbam", example=IMAGES)
    assert ww.load(other, tmp_path / "m.pth").complete
    assert torch.equal(other(IMAGES), model(IMAGES))
    if make is not of_smp:  # which has no name to be built by
        again = ww.load_model(ww.save(model, tmp_path / "m.safetensors"))
        assert torch.equal(again(IMAGES), model(IMAGES))
    assert ww.remove(model) == len(ww.attentions(other))
    assert not ww.attentions(model)


def test_look_fuse_and_export(tmp_path):
    model = of_torchvision()
    ww.insert(model, "cbam", example=IMAGES)
    train(model)
    assert ww.look(model, IMAGES[0], size=64).save(tmp_path / "look.png").exists()
    want = model(IMAGES)
    first, second = ww.fuse(model), ww.fuse(model)
    assert first == second
    torch.testing.assert_close(model(IMAGES), want, rtol=1e-3, atol=1e-4)
    assert ww.unfuse(model) == 8
    with torch.autocast("cpu", torch.bfloat16):
        report = ww.export(model, tmp_path / "m.pt2", example=IMAGES)
    assert max(check.difference for check in report.checks) < 1e-4


def test_replace():
    model = torchvision.models.mobilenet_v3_small().eval()
    want = model(IMAGES)
    assert len(ww.replace(model, "se", "eca", identity=False, example=IMAGES).replaced) == 9
    model = torchvision.models.mobilenet_v3_small().eval()
    want = model(IMAGES)
    ww.replace(model, "se", "cbam", example=IMAGES)
    torch.testing.assert_close(model(IMAGES), want, rtol=1e-3, atol=1e-4)


def test_what_dir_shows():
    shown = set(dir(ww))
    assert {"insert", "look", "study", "StudyConfig", "export", "fold", "capture", "redundancy", "CBAM"} <= shown


OWN = """
import torch, whatwhere as ww

@ww.register("first", title="first try", formula="c = σ(s)", kind="channel")
class First(ww.GatedAttention):
    def __init__(self, channels, *, identity=False, device=None, dtype=None):
        super().__init__(channels)
        self.identity = identity
        self.s = torch.nn.Parameter(torch.zeros(1, channels, 1, 1, device=device, dtype=dtype))

    def gates(self, x):
        return ww.Gates(channel=((2 if self.identity else 1) * self.s.sigmoid()).expand(x.shape[0], -1, 1, 1))
"""


@pytest.mark.slow
def test_a_study_of_ones_own_images_with_ones_own_attention(tmp_path):
    for part, count in (("train", 12), ("test", 6)):
        for number in range(2 * count):
            kind = ("cats", "dogs")[number % 2]
            folder = tmp_path / "images" / part / kind
            folder.mkdir(parents=True, exist_ok=True)
            shade = (200, 40 + number, 30) if kind == "cats" else (30, 40 + number, 200)
            Image.new("RGB", (40, 36), shade).save(folder / f"{number}.png")
    (tmp_path / "first.py").write_text(OWN, encoding="utf-8")
    images = ["--data", "images", "--size", "32", "--epochs", "1", "--batch-size", "8"]

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", "whatwhere", *words], capture_output=True, text=True, cwd=tmp_path, timeout=600
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    tiny = ["--seeds", "1", "--no-control", "--no-costs", "--images", "1", "--out", "study", "--import", "first.py"]
    assert "one seed" in run("study", *images, "--attention", "se", "first", *tiny)
    assert (tmp_path / "study" / "report.html").exists()
    run("look", "images/test/cats/0.png", "--run", "study/se/seed-0", "--out", "look.png")
    run("export", "study/first/seed-0", "--to", "pt2", "--import", "first.py")


class Mistakes:
    """Each is what somebody does, and what the message must say: what came, what is allowed, what to do."""

    def no_call(self):
        ww.insert(torchvision.models.resnet18, "se")

    def a_typo(self):
        ww.insert(of_torchvision(), "cbma")

    def an_option(self):
        ww.insert(of_torchvision(), "se", reducton=8, example=IMAGES)

    def a_place(self):
        ww.insert(of_torchvision(), "se", at="layer9.*", example=IMAGES)

    def twice(self):
        model = of_torchvision()
        ww.insert(model, "se", example=IMAGES)
        ww.insert(model, "se", example=IMAGES)

    def other_channels(self):
        ww.ECA(16)(torch.rand(1, 8, 4, 4))

    def no_batch(self):
        ww.SE(16)(torch.rand(16, 4, 4))

    def no_convolutions(self):
        ww.insert(nn.Sequential(nn.Flatten(), nn.Linear(12288, 4)), "se", example=IMAGES)

    def compiled(self):
        ww.insert(torch.compile(of_torchvision(), backend="eager"), "se", example=IMAGES)

    def nothing_to_replace(self):
        ww.replace(of_torchvision(), "se", "cbam", example=IMAGES)

    def no_file(self):
        ww.load(of_torchvision(), "resnet19.pth")

    def a_wrong_ending(self):
        ww.save(of_torchvision(), "model.pth")

    def no_gates(self):
        ww.capture(of_torchvision()).__enter__()

    def half_a_class(self):
        @ww.register("half", title="half", formula="c", kind="channel")
        class Half(ww.GatedAttention):
            def __init__(self, channels):
                super().__init__(channels)


SAYS = {
    "no_call": ("the function resnet18", "torch.nn.Module is needed", "call it, resnet18(...)"),
    "a_typo": ("unknown attention 'cbma'", "one of", "did you mean 'cbam'?"),
    "an_option": ("no option 'reducton'", "it takes", "did you mean 'reduction'?"),
    "a_place": ("at='layer9.*'", "layer1.0.bn2"),
    "twice": ("attention already at layer1.0.bn2", "remove(model) first"),
    "other_channels": ("got float32 (1, 8, 4, 4)", "takes maps (N, 16, H, W)", "make it for 8 channels"),
    "no_batch": ("got float32 (16, 4, 4)", "takes maps (N, 16, H, W)", "x[None]"),
    "no_convolutions": ("Sequential",),
    "compiled": ("already compiled", "insert first"),
    "nothing_to_replace": ("there is no 'se' in this ResNet", "To add attention: whatwhere.insert"),
    "no_file": ("there is no file resnet19.pth", "give a .safetensors, .pth or .pt file"),
    "a_wrong_ending": ("model.pth", "ends in .safetensors"),
    "no_gates": ("ResNet has no attention", "call whatwhere.insert(model, 'cbam') first"),
    "half_a_class": ("must take the options identity, device, dtype", "must define steps or gates"),
}


@pytest.mark.parametrize("mistake", SAYS)
def test_mistakes_say_what_came_what_is_allowed_and_what_to_do(mistake):
    with pytest.raises(ww.WhatwhereError) as caught:
        getattr(Mistakes(), mistake)()
    said = str(caught.value)
    assert [words for words in SAYS[mistake] if words not in said] == [], said
    assert "?." not in said
    assert "; ;" not in said


def test_weights_that_are_not_finite(tmp_path):
    model = of_torchvision()
    with torch.no_grad():
        model.layer1[0].conv1.weight[0] = float("nan")
        model.fc.bias[1] = float("inf")
    torch.save(model.state_dict(), tmp_path / "m.pth")
    with pytest.warns(RuntimeWarning, match=r"NaN or infinite, in layer1.0.conv1.weight, fc.bias"):
        ww.load(of_torchvision(), tmp_path / "m.pth")
    file = ww.save(model, tmp_path / "m.safetensors")
    with pytest.warns(RuntimeWarning, match="take an earlier checkpoint"):
        ww.load_model(file)
    torch.save(of_torchvision().state_dict(), tmp_path / "good.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ww.load(of_torchvision(), tmp_path / "good.pth")
