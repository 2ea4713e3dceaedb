"""Executors by name, where runs are trained, and what is made of the runs that there are."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from whatwhere.data import DataConfig
from whatwhere.errors import WhatwhereError
from whatwhere.studies import Needs, Outcome, StudyConfig, register_executor
from whatwhere.studies.executors import make_executor, names
from whatwhere.studies.executors.elsewhere import Elsewhere
from whatwhere.studies.executors.registry import EXECUTORS
from whatwhere.studies.folder import StudyFolder
from whatwhere.studies.jobs import DIVERGED, Job, run_job, run_jobs
from whatwhere.studies.machines import describe_kinds
from whatwhere.tasks import create
from whatwhere.tasks.classify import ClassifyConfig
from whatwhere.training import Recipe

TINY = StudyConfig(
    config=ClassifyConfig(DataConfig("scenes:size=20:train=40:test=20")),
    attention=("se",),
    control=False,
    seeds=2,
    recipe=Recipe(epochs=2, batch_size=20, threads=1),
    images=0,
    jobs=2,
)


def test_unknown_executors_and_options():
    assert {"processes", "ray", "slurm"} <= set(names())
    with pytest.raises(WhatwhereError, match=r"unknown executor 'rya': one of .*processes, ray, slurm; did you mean"):
        StudyConfig(on="rya:10.0.0.1:6379")
    with pytest.raises(WhatwhereError, match="processes has no options"):
        make_executor("processes:4", Needs(Path("study")))


def test_a_name_that_is_taken():
    with pytest.raises(WhatwhereError, match="registered already"):
        register_executor("processes")(lambda options, needs: None)
    assert EXECUTORS["processes"].title == "Worker processes of this machine"


def test_an_address_at_which_nothing_answers():
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(WhatwhereError, match=f"nothing answers at 127.0.0.1, port {port}"):
        make_executor(f"ray:127.0.0.1:{port}", Needs(Path("study"))).__enter__()
    with pytest.raises(WhatwhereError, match="the address is HOST:PORT"):
        make_executor("ray:somewhere", Needs(Path("study"))).__enter__()


def test_a_folder_that_cannot_be_written(tmp_path):
    """By a user without rights, or on a disk that is no folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(WhatwhereError, match="cannot be written"):
        StudyFolder(replace(TINY, out=tmp_path / "file" / "study")).claim()
    if os.name != "posix":
        return
    with tempfile.TemporaryDirectory() as folder:  # tmp_path lies in one that other users cannot enter
        os.chmod(folder, 0o555)
        user = os.geteuid()
        try:
            if user == 0:  # may write everywhere
                os.seteuid(65534)
            with pytest.raises(WhatwhereError, match=r"cannot be written: Permission denied"):
                StudyFolder(replace(TINY, out=Path(folder) / "study")).claim()
        finally:
            os.seteuid(user)


def test_a_machine_that_does_not_see_the_folder(tmp_path):
    job = Job("plain", 0, "classify", {}, TINY.recipe, tmp_path / "study" / "plain" / "seed-0")
    error = Elsewhere(job, tmp_path / "study")()
    assert isinstance(error, WhatwhereError)
    assert "does not see the study's folder" in str(error)
    assert not (tmp_path / "study").exists()


def test_another_executor_is_not_another_study(tmp_path):
    first = StudyFolder(replace(TINY, out=tmp_path))
    first.claim()
    again = StudyFolder(replace(TINY, out=tmp_path, on="slurm:partition=a", jobs=5, collect=True))
    assert (again.workers, again.threads) == (5, first.threads)
    assert StudyFolder(replace(TINY, out=tmp_path, jobs=0)).workers == 2


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    """An executor installed as a distribution of its own, which this package knows only by its entry point."""
    site = tmp_path_factory.mktemp("site")
    shutil.copy(Path(__file__).with_name("inline_executor.py"), site / "inline_executor.py")
    info = site / "inline_executor-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: inline-executor\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[whatwhere.executors]\ninline = inline_executor\n")
    before = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *before])}


def test_an_executor_of_another_package_and_collecting(env, tmp_path):
    """It makes the runs of one seed only and then fails; what is there is collected, and what is missing named."""
    out = tmp_path / "study"
    words = ["study", "--data", TINY.config.data.data, "--attention", "se", "--no-control", "--seeds", "2", "--epochs"]
    words += ["2", "--batch-size", "20", "--threads", "1", "--images", "0", "--jobs", "2", "--out", str(out)]

    def run(*more, code=0):
        command = [sys.executable, "-m", "whatwhere", *words, *more]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stderr
        return " ".join((done.stdout + done.stderr).split())

    assert "holds no study: there is nothing to collect" in run("--collect", code=2)
    assert not out.exists()
    assert "inline has no room for seed 1" in run("--on", "inline:1", code=2)
    assert not (out / "results.json").exists()
    machines = json.loads((out / "se" / "seed-0" / "machines.json").read_text())
    assert [kind["threads"] for kind in machines] == ["1"]
    assert not any(socket.gethostname() == value for value in machines[0].values())
    (out / "se" / "seed-0" / "machines.json").write_text(json.dumps([{**machines[0], "processor": "Another"}]))
    (out / "plain" / "seed-1").mkdir()
    (out / "plain" / "seed-1" / DIVERGED).write_text("the loss is not finite\n")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    said = run("--collect")
    assert "1 of 4 runs are missing: se, seed 1 (not begun)." in said
    assert "se: no verdict while runs are missing" in said
    assert "plain, seed 1: the loss is not finite" in said
    assert f"(processor: plain {machines[0]['processor']}, se Another)" in said
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not (out / "se" / "seed-1").exists()
    results = json.loads((out / "results.json").read_text())
    assert [(row["seeds"], row["failed"]) for row in results["rows"]] == [([0], [1]), ([0], [])]
    assert all(row["cost"]["step"]["median"] > 0 for row in results["rows"])


def test_a_seed_of_which_a_run_went_on_elsewhere():
    here, there = {"processor": "A", "gpu": "none"}, {"processor": "A", "gpu": "B"}

    def ran(arm, seed, *machines):
        return Outcome(arm, seed, [80.0], [1.0], 9.0, [], machines=list(machines))

    alike = [ran("plain", 0, here), ran("se", 0, here), ran("plain", 1, there), ran("se", 1, there)]
    assert describe_kinds(alike) == []
    moved = [ran("plain", 2, here), ran("se", 2, here, there)]
    (remark,) = describe_kinds(alike + moved)
    assert "networks of seed 2 were" in remark
    assert "(gpu: plain and se none, se B)" in remark
    assert describe_kinds([ran("plain", 0)]) == [
        "It is not recorded on what kind of machine these were trained: plain, seed 0."
    ]


def test_finished_runs_need_no_executor(tmp_path):
    """Runs that are all there are read, wherever they were made: nothing is entered or submitted."""

    class Closed:
        def __enter__(self):
            raise AssertionError("entered")

        def __exit__(self, *_):
            return None

    task = create("classify", TINY.config)
    job = Job("plain", 0, "classify", task.attended("none"), TINY.recipe, tmp_path / "plain" / "seed-0")
    first = run_job(job)
    assert len(first.curve) == 2
    assert len(first.machines) == 1
    (again,) = run_jobs([job], Closed())
    assert again == first
    with pytest.raises(AssertionError, match="entered"):
        list(run_jobs([replace(job, folder=tmp_path / "plain" / "seed-1")], Closed()))
