"""A task of another package works everywhere, in processes that know it only by its entry point."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

TRAIN = [
    "train",
    "points",
    "--count",
    "64",
    "--epochs",
    "12",
    "--batch-size",
    "16",
    "--threads",
    "1",
    "--save-every",
    "1",
]
STUDY = ["study", "points", "--count", "64", "--attention", "se", "--seeds", "2", "--epochs", "2", "--batch-size", "16"]
SEVERAL = "import sys; from whatwhere.cli import main; sys.exit(max(main(words.split()) for words in sys.argv[1:]))"


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    """Install ``points.py`` as a distribution of its own; return the environment in which it is there."""
    site = tmp_path_factory.mktemp("site")
    shutil.copy(Path(__file__).with_name("points.py"), site / "points_task.py")
    info = site / "points_task-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: points-task\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[whatwhere.tasks]\npoints = points_task\n")
    before = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *before])}


def start(env, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "whatwhere", *words],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process, code=0):
    said, _ = process.communicate(timeout=300)
    assert process.returncode == code, said
    return said


@pytest.fixture(scope="module")
def trained(env, tmp_path_factory):
    """A run that was never stopped, and one that was killed with SIGKILL after some steps and resumed."""
    folder = tmp_path_factory.mktemp("runs")
    whole = start(env, *TRAIN, "--out", str(folder / "whole"))
    cut = start(env, *TRAIN, "--out", str(folder / "cut"))
    metrics = folder / "cut" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_bytes()) and cut.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    cut.kill()
    cut.communicate()
    assert cut.returncode == -signal.SIGKILL, "it ended before it was killed"
    said = finish(whole)
    finish(start(env, *TRAIN, "--out", str(folder / "cut"), "--resume"))
    return folder, said


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_it_trains_and_a_killed_run_ends_in_the_same_bits(trained):
    folder, said = trained
    assert " px (best)" in said  # a lower error is a better one
    assert "mae " in said.splitlines()[-1]
    assert json.loads((folder / "whole" / "config.json").read_text())["config"]["spots"]["count"] == 64
    rows = [json.loads(line) for line in (folder / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["test_mae"] < 0.7 * rows[0]["test_mae"]
    for name in ("last", "best"):
        one, two = (load_file(folder / run / f"{name}.safetensors") for run in ("whole", "cut"))
        assert one.keys() == two.keys()
        assert [key for key in one if one[key].numpy().tobytes() != two[key].numpy().tobytes()] == []


def test_it_is_looked_at_exported_and_named_in_mistakes(trained, env):
    folder, _ = trained
    png, run = folder / "look.png", folder / "whole"
    commands = [f"look test:3 --run {run} --out {png}", f"export {run} --to pt2"]
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, *commands, "look test:24 --run " + str(run), "train point"],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    assert Image.open(png).width > 200
    assert "x " in done.stdout.split("; drawn in")[0]
    assert "24 images" in done.stdout
    assert "0 to 23" in done.stderr
    assert "did you mean 'points'" in done.stderr
    assert (run / "model.pt2").exists()
    assert "– –" in " ".join(done.stdout.split())  # no class scores: no accuracy, no answers


def test_it_is_studied(env, tmp_path):
    said = finish(start(env, *STUDY, "--images", "1", "--jobs", "2", "--out", str(tmp_path / "study")))
    assert "mean error px" in " ".join(said.split())
    read = json.loads((tmp_path / "study" / "results.json").read_text())
    assert [row["arm"] for row in read["rows"]] == ["plain", "se", "wider"]
    for row in read["rows"][1:]:
        assert row["verdict"]["words"] == "2 seeds: no verdict below 3"
        assert row["images"] is None, "this task gives no scores of images"
        assert row["cost"]["parameters"] > read["rows"][0]["cost"]["parameters"]
    lines = list(csv.DictReader((tmp_path / "study" / "results.csv").read_text().splitlines()))
    assert float(lines[0]["mean_error_mean"]) == read["rows"][0]["headline"]["mean"]
    report = (tmp_path / "study" / "report.html").read_text()
    assert "The plain network ends at a mean error of" in report
    assert "A lower mean error is better" in report
    assert "plain says x " in report
    assert report.count("data:image/png") == 3 + 2
