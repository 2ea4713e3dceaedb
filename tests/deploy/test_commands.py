"""whatwhere export and whatwhere fold."""

import subprocess
import sys

import pytest

from whatwhere import cli

SMALL = ["--data", "scenes:size=20:train=60:test=30", "--epochs", "1", "--batch-size", "20"]


@pytest.fixture
def run(capsys):
    """Run the command line in this process and return what it prints."""

    def call(*words, code=0):
        capsys.readouterr()
        try:
            status = cli.main(words)
        except SystemExit as ended:
            status = ended.code
        said = "".join(capsys.readouterr())
        assert status == code, said
        return said

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert cli.main(["train", "classify", *SMALL, "--attention", "cbam", "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("command", ["export", "fold"])
def test_help_teaches_by_example(run, command):
    assert f"whatwhere {command} runs/classify" in run(command, "--help").split("usage:")[1]


@pytest.mark.slow
def test_export_as_a_user_runs_it(trained):
    pytest.importorskip("onnxscript")
    words = ["export", str(trained), "--int8", "--calibrate", "20"]
    done = subprocess.run([sys.executable, "-m", "whatwhere", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (trained / "model.onnx").exists()
    assert (trained / "model.int8.onnx").exists()
    for words in ("30 images", "top-1", "PyTorch", "ONNX Runtime", "int8"):
        assert words in done.stdout


def test_export_to_a_program(run, trained, tmp_path):
    out = tmp_path / "mine.pt2"
    said = run("export", str(trained), "--to", "pt2", "--out", str(out), "--images", "10")
    assert "10 images" in said
    assert out.exists()


def test_fold(run, trained, tmp_path):
    before = {path: path.read_bytes() for path in trained.glob("*.*")}
    said = run("fold", str(trained), "--tolerance", "0.5", "--dry-run", "--seconds", "0")
    assert "3 of 3 would be folded" in said
    assert "of 30 images" in said
    out = tmp_path / "folded.pt2"
    said = run("fold", str(trained), "--tolerance", "0.5", "--seconds", "0.01", "--out", str(out))
    assert "channel part folded" in said
    assert "ms (median" in said
    assert out.exists()
    assert "nothing was written" in run("fold", str(trained), "--seconds", "0")
    assert {path: path.read_bytes() for path in trained.glob("*.*")} == before


def test_mistakes_are_explained(run, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = str(trained)
    for words, says in (
        (("export", "nowhere"), "not a run folder"),
        (("export", there, "--to", "pt2", "--int8"), "--int8 is for ONNX"),
        (("export", there, "--out", "m.pt2"), "must end in .onnx"),
        (("export", there, "--to", "tflite"), "tflite"),
        (("fold", there, "--tolerance", "-1"), "tolerance=-1"),
        (("fold", there, "--dry-run", "--out", "x.onnx"), "--dry-run writes nothing"),
        (("fold", there, "--watch", "5"), "fewer than 16"),
    ):
        said = run(*words, code=2)
        assert says in " ".join(said.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []
