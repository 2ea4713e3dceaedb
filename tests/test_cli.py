"""The command line, run as a user runs it."""

import json
import os
import re
import subprocess
import sys

import pytest
from PIL import Image

from whatwhere import cli

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
    "words",
    [
        (),
        ("study",),
        ("train",),
        ("train", "classify"),
        ("train", "detect"),
        ("train", "caption"),
        ("study", "caption"),
        ("detect",),
        ("caption",),
        ("look",),
        ("cost",),
        ("sites",),
        ("names",),
    ],
    ids=str,
)
def test_help_teaches_by_example(words):
    said = run(*words, "--help")
    assert "usage: whatwhere" in said
    if words != ("train",):
        assert f"whatwhere {' '.join(words)}".strip() in said.split("usage:")[1].split("\n", 1)[1]


def test_the_first_screen_is_one():
    lines = cli.ABOUT.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(cli.COMMANDS)


@pytest.mark.parametrize("words", [("study",), ("train", "classify"), ("look",), ("cost",)], ids=" ".join)
def test_help_has_no_names_of_fields(words, capsys):
    with pytest.raises(SystemExit):
        cli.read([*words, "--help"])
    said = capsys.readouterr().out
    assert not re.search(r"(config[.\w]*|recipe|model) options", said)
    assert not re.search(r"^[│ ] STR ", said, re.MULTILINE)
    assert "--import MODULE" in said
    boxes = {len(line) for line in said.splitlines() if line[:1] in "╭│╰"}
    assert len(boxes) <= 1


def test_help_of_a_command_in_both_ways(capsys):
    for words in (["help", "look"], ["look", "--help"]):
        with pytest.raises(SystemExit):
            cli.read(words)
        assert "usage: whatwhere look" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["names", "sites small-resnet --size 32"])
def test_tables_fit_80_columns(words):
    done = subprocess.run(
        [sys.executable, "-m", "whatwhere", *words.split()],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_reader_that_ends_early():
    done = subprocess.run(
        f"{sys.executable} -m whatwhere names --markdown | head -1", shell=True, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.startswith("| name |")


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
        (("clasify",), "did you mean 'train classify'"),
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
        (("train", "detect", "--data", "nowhere"), "there is no nowhere"),
        (("train", "detect", "--data", "."), "no annotations that are known here"),
        (("train", "detect", "--detector", "yolo"), "fcos"),
        (("train", "detect", "--channels", "50"), "must be a multiple of 32"),
        (("train", "caption", "--data", "nowhere"), "there is no nowhere"),
        (("train", "caption", "--data", "."), "no sentences that are known here"),
        (("train", "caption", "--attention", "cbam"), "soft"),
        (("train", "caption", "--layers", "9", "--data", "scenes:train=8:test=2"), "maps of activations, not 9"),
        (("study", "caption", "--attention", "c-z"), "did you mean 'c-s'"),
        (("study", "caption", "--attention", "none"), "always part of a study"),
        (("caption", "x.png", "--run", "nowhere"), "not a run folder"),
        (("caption", "x.png", "--run", "nowhere", "--look", "gif"), "add --out"),
        (("study", "detect", "--seeds", "0"), "seeds must be at least 1"),
        (("detect", "x.png", "--run", "nowhere"), "not a run folder"),
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


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "detector"
    data = ["--data", "scenes:size=64:train=60:test=12", "--channels", "32", "--attention", "cbam"]
    said = run("train", "detect", *data, "--epochs", "1", "--batch-size", "12", "--out", str(folder))
    return folder, said


def test_train_detect_then_find_look_and_export(detector, tmp_path):
    folder, said = detector
    assert "map" in said
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (90, 50), "red").save(images / "a.png")
    (images / "b.jpg").write_bytes(b"not an image")
    said = run("detect", str(images), "--run", str(folder), "--score", "0", "--out", str(tmp_path / "found"))
    assert "left out" in said
    assert "b.jpg" in said
    found = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert list(found) == [str(images / "a.png")]
    assert len(list((tmp_path / "found").glob("*.png"))) == 1
    for box in found[str(images / "a.png")]:
        x1, y1, x2, y2 = box["box"]
        assert 0 <= x1 < x2 <= 90
        assert 0 <= y1 < y2 <= 50
    said = run("look", "test:1", "--run", str(folder), "--out", str(tmp_path / "look.png"))
    assert "hit" in said
    said = run("export", str(folder), "--images", "4")
    assert "non-maximum suppression" in said
    assert (folder / "model.onnx").exists()


def test_detect_explains_mistakes(detector, trained, tmp_path):
    folder, _ = detector
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, says in (
        ((str(empty), "--run", str(folder)), "no file named like an image"),
        ((str(tmp_path / "gone.jpg"), "--run", str(folder)), "no image could be read"),
        (("a.jpg", "--run", str(folder), "--score", "2"), "must be from 0 to 1"),
        (("a.jpg", "--run", str(trained[0])), "finds no boxes"),
    ):
        said = run("detect", *words, "--out", str(tmp_path / "o"), code=2, cwd=tmp_path)
        assert says in said.replace("\n", " ")
        assert "Traceback" not in said


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "captioner"
    data = ["--data", "scenes:train=60:test=12", "--hidden", "32", "--attention", "c-s", "--layers", "2"]
    said = run("train", "caption", *data, "--epochs", "1", "--batch-size", "12", "--out", str(folder))
    return folder, said


def test_train_caption_then_caption_and_look_in_new_processes(captioner, tmp_path):
    folder, said = captioner
    assert "all" in said
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (90, 50), "red").save(images / "a.png")
    (images / "b.jpg").write_bytes(b"not an image")
    out = tmp_path / "captions"
    said = run("caption", str(images), "--run", str(folder), "--beam", "2", "--out", str(out), "--look", "html")
    assert "left out" in said
    assert "b.jpg" in said
    found = json.loads((out / "captions.json").read_text())
    assert list(found) == [str(images / "a.png")]
    (sentences,) = found.values()
    assert 1 <= len(sentences) <= 2
    assert all(one["log_probability"] < 0 for one in sentences)
    assert len(list(out.glob("*.html"))) == 1
    run("look", "test:1", "--run", str(folder), "--out", str(tmp_path / "look.gif"))
    assert Image.open(tmp_path / "look.gif").n_frames > 1


def test_caption_explains_mistakes(captioner, trained, tmp_path):
    folder, _ = captioner
    for words, says in (
        (("caption", "gone.jpg", "--run", str(folder)), "no image could be read"),
        (("caption", "a.jpg", "--run", str(folder), "--beam", "0"), "must be at least 1"),
        (("caption", "a.jpg", "--run", str(trained[0])), "writes no sentences"),
        (("detect", "a.jpg", "--run", str(folder)), "finds no boxes"),
        (("export", str(folder)), "cannot be exported"),
        (("fold", str(folder)), "cannot be exported, folded"),
        (("redundancy", str(folder)), "measured for redundancy"),
    ):
        said = run(*words, code=2, cwd=tmp_path)
        assert says in said.replace("\n", " "), (words, said)
        assert "Traceback" not in said


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
    assert all(words in said for words in ("142,392", "143,183", "+0.56 %"))  # parameters, without and with SE
    assert "×1.00" in said
    said = run("sites", "small-resnet", "--size", "32")
    assert "stages.2.0.bn2" in said
    assert "residual" in said
    assert all(f" {name} " in run("names") for name in ("bam", "cam", "cbam", "dfc", "sam", "se"))
    assert run("--version").startswith("whatwhere 0.")
