"""Ghost convolutions in a trained network beside the narrowed one, on real files of images."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import ghost, ghost_finetuning
from benchmarks.narrowing import narrowed
from whatwhere.checkpoints import build
from whatwhere.cost import count_multiply_adds
from whatwhere.networks import ModelConfig

MODEL = "mobilenetv3_small_050"
pytest.importorskip("timm")
pytest.importorskip("torch_pruning")


@pytest.fixture
def here(tmp_path):
    """Three classes of eight images, and a network whose weights are a file."""
    generator = np.random.default_rng(0)
    for label in ("a", "b", "c"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(8):
            pixels = generator.integers(0, 255, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    torch.manual_seed(0)
    torch.save(build(ModelConfig(MODEL, classes=3)).state_dict(), tmp_path / "weights.pth")
    return tmp_path


def test_narrowed_has_the_multiply_adds_that_are_asked_for():
    model = build(ModelConfig(MODEL, classes=3)).eval()
    whole = count_multiply_adds(model, (3, 64, 64))
    found = narrowed(model, whole // 2, 64)
    assert count_multiply_adds(found, (3, 64, 64)) == pytest.approx(whole / 2, rel=0.1)
    assert found(torch.rand(2, 3, 64, 64)).shape == (2, 3)
    assert count_multiply_adds(model, (3, 64, 64)) == whole


@pytest.mark.slow
def test_every_start_is_measured(here, capsys):
    words = ["--images", here / "images", "--weights", here / "weights.pth", "--out", here / "out", "--model", MODEL]
    words += ["--classes", 3, "--fit", 16, "--ratios", 2, "--at", "blocks.[12]*", "keep=0.0", "--seeds", 2]
    assert ghost.main(list(map(str, words))) == 0
    rows = json.loads((here / "out.json").read_text())["rows"]
    assert [row["at"] for row in rows] == ["blocks.[12]*", "keep=0.0"]
    assert rows[0]["replaced"] == len(rows[0]["sites"]) > rows[1]["replaced"]
    assert len(rows[0]["random"]) == 2
    assert "nothing is trained" in capsys.readouterr().out


@pytest.mark.slow
def test_a_study_of_fine_tuning(here, capsys):
    words = ["--data", "scenes:size=32:train=40:test=20", "--weights", here / "weights.pth", "--model", MODEL]
    words += ["--size", 32, "--seeds", 1, "--epochs", 1, "--ghost", "2:maps", "2:random", "--out", here / "study"]
    assert ghost_finetuning.main(list(map(str, words))) == 0
    said = capsys.readouterr().out
    rows = [line.split(" | ")[0] for line in said.splitlines() if line.startswith("| ")]
    assert rows[2:] == ["| plain", "| ghost:2:maps", "| ghost:2:random", "| narrower"]
