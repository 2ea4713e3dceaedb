"""What insertion does to a trained network, on real files of images."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import start
from whatwhere.checkpoints import build
from whatwhere.networks import ModelConfig


@pytest.fixture
def here(tmp_path):
    """Three classes of two images, one of them broken, and a network whose weights are a file."""
    generator = np.random.default_rng(0)
    for label in ("a", "b", "c"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(2):
            pixels = generator.integers(0, 255, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    (tmp_path / "images" / "b" / "1.png").write_bytes(b"no image")
    torch.manual_seed(0)
    torch.save(build(ModelConfig("mobilenetv3_small_050", classes=3)).state_dict(), tmp_path / "weights.pth")
    return tmp_path


def run(here, *more, classes=3):
    words = ["--images", here / "images", "--weights", here / "weights.pth", "--out", here / "out"]
    words += ["--model", "mobilenetv3_small_050", "--classes", classes, "--seeds", 2, *more]
    return start.main(list(map(str, words)))


def test_every_answer_stays(here, capsys):
    pytest.importorskip("timm")
    assert run(here, "--attention", "se", "cbam") == 0
    said = capsys.readouterr()
    assert "left out:" in said.err
    quality = json.loads((here / "out.json").read_text())["quality"]
    assert {one["images"] for one in quality.values()} == {5}
    assert quality["cbam/1 (identity)/0"]["difference"] == 0
    assert quality["cbam/the paper's/0"]["difference"] != quality["cbam/the paper's/1"]["difference"] > 0
    rows = [line for line in (here / "out.md").read_text().splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0][2:] for row in rows[2:]] == ["plain", "se", "se", "cbam", "cbam", "timm's CBAM"]


def test_an_identity_start_that_changes_an_answer_is_a_failure(here, monkeypatch):
    pytest.importorskip("timm")
    real = start.ww.insert

    def insert(model, name, **options):
        report = real(model, name, **{**options, "identity": False})
        with torch.no_grad():
            model.classifier.bias += torch.tensor([1e3, 2e3, 3e3]) * torch.randn(3)
        return report

    monkeypatch.setattr(start.ww, "insert", insert)
    assert run(here, "--attention", "sam", "--limit", 5) == 1


def test_wrong_images(here, capsys):
    pytest.importorskip("timm")
    assert run(here, classes=4) == 2
    assert "3 folders, and the network 4 classes" in capsys.readouterr().err
