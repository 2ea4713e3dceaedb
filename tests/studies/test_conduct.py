"""Whole studies, small enough for a test."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from dataclasses import replace

import pytest

from whatwhere.data import DataConfig
from whatwhere.errors import WhatwhereError
from whatwhere.studies import StudyConfig, run_job, study
from whatwhere.tasks.classify import ClassifyConfig
from whatwhere.training import Recipe

SMALL = StudyConfig(
    config=ClassifyConfig(DataConfig("scenes:size=20:train=120:test=60")),
    attention=("cbam",),
    seeds=2,
    recipe=Recipe(epochs=2, batch_size=20),
    images=1,
    jobs=2,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "small"
    return out, study(replace(SMALL, out=out), progress=False, command="whatwhere study")


def table(results):
    return [
        (row.arm, row.values, row.difference, row.verdict, row.evidence, row.curves, row.losses) for row in results.rows
    ]


def test_everything_is_written(finished):
    out, results = finished
    for name in ("results.json", "results.csv", "results.md", "curves.png", "time.png", "report.html"):
        assert (out / name).stat().st_size > 500
    assert [row.arm for row in results.rows] == ["plain", "cbam", "wider"]
    assert all(len(row.values) == 2 and len(row.curves[0]) == 2 for row in results.rows)
    assert "gate" in results.rows[1].evidence
    assert "gate" not in results.rows[0].evidence
    assert 0 < results.rows[0].evidence["area"].mean < 60
    assert json.loads((out / "results.json").read_text())["command"] == "whatwhere study"
    assert (out / "report.html").read_text().count("data:image/png") == 2 + 2


def test_again_is_the_same_without_training(finished):
    out, results = finished
    stamps = {p: p.stat().st_mtime_ns for p in out.glob("*/*/last.safetensors")}
    assert len(stamps) == 6
    assert table(study(replace(SMALL, out=out), progress=False)) == table(results)
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


class Inline:
    """An executor that makes each run in this process, when it is submitted."""

    def __init__(self):
        self.made = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def submit(self, job):
        future = Future()
        future.set_result(run_job(job))
        self.made.append((job.arm, job.seed))
        return future


def test_another_executor_gives_the_same_numbers(finished, tmp_path):
    _, results = finished
    inline = Inline()
    again = study(replace(SMALL, out=tmp_path / "inline"), progress=False, executor=inline)
    assert len(inline.made) == 6
    assert table(again) == table(results)
    assert "runs by Inline" in again.machine["training"]


def test_other_options_in_the_same_folder_raise(finished):
    out, _ = finished
    with pytest.raises(WhatwhereError, match=r"other options \(seeds\)"):
        study(replace(SMALL, out=out, seeds=3), progress=False)


def test_a_folder_that_is_no_study_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(WhatwhereError, match="is not a study"):
        study(replace(SMALL, out=tmp_path), progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


def test_images_that_are_not_there(tmp_path):
    with pytest.raises(WhatwhereError, match="no folder here"):
        study(
            replace(SMALL, config=ClassifyConfig(DataConfig(str(tmp_path / "nowhere"))), out=tmp_path / "s"),
            progress=False,
        )


def test_a_script_without_a_guard_is_told_so(tmp_path):
    """A study starts processes, and each of them would run the script again."""
    script = tmp_path / "script.py"
    data = "{'data': {'data': 'scenes:size=20:train=40:test=20'}}"
    config = f"ww.StudyConfig(config={data}, attention=('se',), seeds=1, out='study')"
    script.write_text(f"import whatwhere as ww\nww.study({config}, progress=False)\n")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert "if __name__ == '__main__'" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_killed_study_ends_in_the_same_table(finished, tmp_path):
    _, results = finished
    out = tmp_path / "killed"
    command = [
        sys.executable,
        "-m",
        "whatwhere",
        "study",
        "--data",
        SMALL.config.data.data,
        "--attention",
        "cbam",
        "--seeds",
        "2",
    ]
    command += ["--epochs", "2", "--batch-size", "20", "--images", "1", "--jobs", "2", "--out", str(out)]
    for done in (1, 3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while (
            len(list(out.glob("*/*/last.safetensors"))) < done and process.poll() is None and time.monotonic() < until
        ):
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(1.5)  # its workers end themselves
    assert not (out / "results.json").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)
    again = json.loads((out / "results.json").read_text())
    assert [row["curves"] for row in again["rows"]] == [row.curves for row in results.rows]
    assert [row["verdict"] for row in again["rows"]] == [row.verdict for row in results.rows]
