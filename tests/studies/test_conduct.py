"""Whole studies, small enough for a test."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest

from whatwhere.data import DataConfig
from whatwhere.errors import WhatwhereError
from whatwhere.studies import Outcome, StudyConfig, register_executor, run_job, study
from whatwhere.studies.executors.registry import EXECUTORS
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
    """All that does not depend on time; what is not a number is None, and so equal."""
    keys = ("arm", "values", "difference", "verdict", "evidence", "curves", "losses")
    return [[row[key] for key in keys] for row in json.loads(results.to_json())["rows"]]


def test_everything_is_written(finished):
    out, results = finished
    for name in ("results.json", "results.csv", "results.md", "results.tex", "curves.png", "time.png", "report.html"):
        assert (out / name).stat().st_size > 500
    assert [row.arm for row in results.rows] == ["plain", "cbam", "wider"]
    assert all(len(row.values) == 2 and len(row.curves[0]) == 2 for row in results.rows)
    assert "gate" in results.rows[1].evidence
    assert "gate" not in results.rows[0].evidence
    assert 0 < results.rows[0].evidence["area"].mean < 60
    assert json.loads((out / "results.json").read_text())["command"] == "whatwhere study"
    assert (out / "report.html").read_text().count("data:image/png") == 3 + 2
    assert [row.verdict.words for row in results.compared] == ["2 seeds: no verdict below 3"] * 2


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
    with pytest.raises(WhatwhereError, match=r"other options \(recipe.epochs\)"):
        study(replace(SMALL, out=out, recipe=replace(SMALL.recipe, epochs=3)), progress=False)
    with pytest.raises(WhatwhereError, match="holds a study of 2 seeds: it can be given more, not fewer"):
        study(replace(SMALL, out=out, seeds=1), progress=False)


class Entered(Inline):
    """Counts how often it is entered."""

    entered = 0

    def __enter__(self):
        self.entered += 1
        return self


QUICK = replace(SMALL, images=0, costs=False, jobs=1)


def test_more_seeds_later_make_only_the_missing_runs(tmp_path):
    out = tmp_path / "study"
    first, second, third = Entered(), Entered(), Entered()
    three = study(replace(QUICK, out=out, seeds=3), progress=False, executor=first)
    four = study(replace(QUICK, out=out, seeds=4, margin=5.0), progress=False, executor=second)
    assert [len(executor.made) for executor in (first, second)] == [9, 3]
    assert [row.curves[:3] for row in four.rows] == [row.curves for row in three.rows]
    assert (three.rules.plan.counts, four.rules.plan.counts) == ((3,), (3, 4))
    assert three.rules.plan.level == 0.05
    assert 0.025 < four.rules.plan.level < 0.04
    assert not any("looked at before" in remark for remark in three.remarks)
    assert any("looked at before, with 3 seeds" in remark for remark in four.remarks)
    assert any("margin was changed" in remark for remark in four.remarks)
    assert four.rows[1].images.n == 4
    assert json.loads((out / "study.json").read_text())["looks"] == [3, 4]
    again = study(replace(QUICK, out=out, seeds=4), progress=False, executor=third)
    assert table(again)[0] == table(four)[0]
    assert again.rules.plan.counts == (3, 4)
    assert (second.entered, third.entered) == (1, 0), "where no run is missing, nothing is entered"


def fake_runs(monkeypatch, values):
    """Give runs that are made at once, with these accuracies by arm and seed."""

    def run(job):
        return Outcome(job.arm, job.seed, [values[job.arm](job.seed)], [1.0], 60.0, [])

    monkeypatch.setattr("whatwhere.studies.measure.evidence", lambda *_: {})
    monkeypatch.setattr("whatwhere.studies.measure.looks", lambda *_: ([], []))
    monkeypatch.setitem(globals(), "run_job", run)


def test_until_decided(tmp_path, monkeypatch):
    """A network that is decided at the first look gets no more seeds; the other goes on to the end."""
    noise = np.random.default_rng(0).normal(0, 1, 100)
    values = {
        "plain": lambda s: 70 + noise[s],
        "cbam": lambda s: 80 + noise[s] + 0.1 * noise[50 + s],
        "wider": lambda s: 71 + 5 * noise[30 + s],
    }
    fake_runs(monkeypatch, values)
    config = replace(QUICK, out=tmp_path / "s", until_decided=True, max_seeds=9, seeds=1)
    executor = Entered()
    results = study(config, progress=False, executor=executor)
    made = [arm for arm, _ in executor.made]
    assert (made.count("plain"), made.count("cbam"), made.count("wider")) == (9, 3, 9)
    assert executor.entered == 1, "it is entered once for all looks"
    assert [look.seeds for look in results.looks] == [3, 6, 9]
    assert results.rows[1].verdict.words == "better"
    assert results.rows[2].verdict.kind == "undecided"
    assert results.ended == "Not all networks were decided with 9 seeds."
    assert not any("looked at before" in remark for remark in results.remarks)
    again = Entered()
    register_executor("again")(lambda options, needs: again)
    try:
        repeated = study(replace(config, on="again"), progress=False)
    finally:
        EXECUTORS.discard("again")
    assert table(repeated) == table(results)
    assert "runs by Entered" in repeated.machine["training"]
    assert (again.made, again.entered) == (executor.made, 1), "the looks are taken again from the first"
    extended = study(replace(config, max_seeds=12), progress=False, executor=Entered())
    assert extended.rules.plan.counts == (3, 6, 9, 12)
    assert any("looked at before, with 3, 6 and 9 seeds" in remark for remark in extended.remarks)


def test_the_time_that_is_allowed(tmp_path, monkeypatch):
    """Nine runs of a minute by one worker are the first look; the next would take as long again."""
    values = dict.fromkeys(("plain", "cbam", "wider"), lambda s: 70 + s % 3)
    values["cbam"] = lambda s: 71 + 10 * (s % 2)
    fake_runs(monkeypatch, values)
    config = replace(QUICK, out=tmp_path / "s", until_decided=True, max_seeds=9, minutes=14.0, margin=0.0)
    executor = Entered()
    results = study(config, progress=False, executor=executor)
    assert len(executor.made) == 9
    assert [look.seeds for look in results.looks] == [3]
    assert "the look at 6 seeds would have taken about 9 min 00 s more" in results.ended
    assert results.ended in (tmp_path / "s" / "report.html").read_text()
    more = study(replace(config, minutes=20.0), progress=False, executor=Entered())
    assert [look.seeds for look in more.looks] == [3, 6]


def test_runs_keep_the_scores_of_images(finished):
    """Their mean is the accuracy after the last epoch."""
    out, results = finished
    for row in results.rows:
        for seed, value in zip(row.seeds, row.values, strict=True):
            found = np.load(out / row.arm / f"seed-{seed}" / "scores.npz")
            assert found["index"].tolist() == list(range(60))
            assert 100 * found["score"].mean() == pytest.approx(value, abs=1e-4)


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
    command += ["--epochs", "2", "--batch-size", "20", "--ema", "0", "--images", "1", "--jobs", "2", "--out", str(out)]
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
    words = [row["verdict"] and row["verdict"]["words"] for row in again["rows"]]
    assert words == [row.verdict and row.verdict.words for row in results.rows]
