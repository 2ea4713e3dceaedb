"""The command line, run as a user runs it."""

import json
import subprocess
import sys

import pytest
from PIL import Image

SMALL = ["--data", "scenes:size=20:train=60:test=30", "--epochs", "1", "--batch-size", "20"]


def run(*words, code=0, cwd=None):
    done = subprocess.run(
        [sys.executable, "-m", "whatwhere", *words], capture_output=True, text=True, timeout=300, cwd=cwd
    )
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    said = run("train", "classify", *SMALL, "--attention", "cbam", "--out", str(folder))
    return folder, said


@pytest.mark.parametrize(
    "words", [(), ("study",), ("train",), ("train", "classify"), ("look",), ("cost",), ("sites",), ("names",)], ids=str
)
def test_help_teaches_by_example(words):
    said = run(*words, "--help")
    assert "usage: whatwhere" in said
    if words != ("train",):
        assert f"whatwhere {' '.join(words)}".strip() in said.split("usage:")[1].split("\n", 1)[1]


def test_train_then_look(trained, tmp_path):
    folder, said = trained
    assert "top1" in said
    config = json.loads((folder / "config.json").read_text())
    assert config["config"]["model"]["attention"] == "cbam"
    assert (
        len([json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines() if '"epoch"' in line])
        >= 1
    )
    out = tmp_path / "look.png"
    assert "drawn in" in run("look", "test:3", "--run", str(folder), "--out", str(out))
    assert Image.open(out).width > 800
    image = tmp_path / "mine.jpg"
    Image.open(out).convert("RGB").resize((90, 60)).save(image)
    assert "%" in run("look", str(image), "--run", str(folder), "--out", str(tmp_path / "b.svg"), "--target", "seven")


def test_train_again(trained):
    folder, _ = trained
    assert "already holds a run" in run(
        "train", "classify", *SMALL, "--attention", "cbam", "--out", str(folder), code=2
    )
    assert "top1" in run("train", "classify", *SMALL, "--attention", "cbam", "--out", str(folder), "--resume")
    said = run("train", "classify", *SMALL, "--attention", "se", "--out", str(folder), "--resume", code=2)
    assert "started differently" in said
    assert "attention" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("frobnicate",), "frobnicate"),
        ((), "whatwhere COMMAND --help"),
        (("stuy",), "did you mean 'study'"),
        (("train",), "classify Tell apart the classes of images"),
        (("train", "clasify"), "did you mean 'classify'"),
        (("study", "clasify"), "did you mean 'classify'"),
        (("study", "classify", "--seeds", "0"), "seeds must be at least 1"),
        (("study", "--attention", "cbma"), "did you mean 'cbam'"),
        (("study", "--seeds", "0"), "seeds must be at least 1"),
        (("study", "--lr", "-1"), "lr=-1"),
        (("study", "--model", "resnet5"), "unknown network"),
        (("study", "--data", "nowhere"), "no folder here"),
        (("train", "classify", "--data", "nowhere"), "no folder here"),
        (("train", "classify", "--model", "resnet5"), "unknown network"),
        (("train", "classify", "--attention", "se:reducton=3"), "did you mean 'reduction'"),
        (("look", "x.png", "--run", "nowhere"), "not a run folder"),
        (("cost", "small-resnet", "--attention", "ce"), "unknown attention"),
        (("sites", "vit_tiny_patch16_224"), "no site"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else "",
)
def test_mistakes_are_explained(words, says, tmp_path):
    said = run(*words, code=2, cwd=tmp_path)
    assert says in " ".join(said.replace("│", " ").split())
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_look_explains_mistakes(trained, tmp_path):
    folder, _ = trained
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not an image")
    out = tmp_path / "o.png"
    for words, says in (
        ((str(broken),), "broken.jpg"),
        (("test:999",), "0 to 29"),
        (("test:1", "--target", "sevn"), "did you mean 'seven'"),
    ):
        said = run("look", *words, "--run", str(folder), "--out", str(out), code=2)
        assert says in said
        assert "Traceback" not in said
    assert not out.exists()


def test_cost_sites_names():
    said = run(
        "cost", "small-resnet", "--attention", "se", "cbam", "--size", "32", "--batch-size", "4", "--seconds", "0.1"
    )
    assert all(words in said for words in ("142,392", "143,183", "(+0.56 %)"))  # parameters, without and with SE
    assert "×1.00" in said
    said = run("sites", "small-resnet", "--size", "32")
    assert "stages.2.0.bn2" in said
    assert "residual" in said
    assert all(f" {name} " in run("names") for name in ("bam", "cam", "cbam", "dfc", "sam", "se"))
    assert run("--version").startswith("whatwhere 0.")
