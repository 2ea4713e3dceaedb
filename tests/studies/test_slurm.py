"""Studies by submitit: in processes of this machine, on a SLURM that refuses, and on a real one where there is one."""

import importlib.util
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from whatwhere.errors import WhatwhereError
from whatwhere.studies.executors import Needs, make_executor
from whatwhere.studies.executors.slurm_options import read_slurm

needs_submitit = pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="submitit is not installed")


def test_options():
    cluster, restarts, parameters = read_slurm(
        "partition=gpu:--gres=gpu:a100:2:time=1-12:cpus-per-task=3:restarts=0:parallel=4:setup=ml cuda:nodes=1",
        Needs(Path("study"), threads=2, loaders=4),
    )
    assert (cluster, restarts) == ("slurm", 0)
    assert parameters == {
        "name": "whatwhere",
        "timeout_min": 36 * 60,
        "cpus_per_task": 3,
        "slurm_srun_args": ["--cpus-per-task=3"],
        "slurm_array_parallelism": 4,
        "slurm_setup": ["ml cuda"],
        "slurm_additional_parameters": {"partition": "gpu", "gres": "gpu:a100:2"},
    }
    _, _, parameters = read_slurm("", Needs(Path("study"), threads=2, loaders=4))
    assert parameters["cpus_per_task"] == 6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("gpu", "is not OPTION=VALUE"),
        ("partition=", "is not OPTION=VALUE"),
        ("time=60:time=70", "time is given twice"),
        ("time=soon", "time=soon: must be a time limit"),
        ("time=0", "time=0: must be"),
        ("ntasks=2", "a run is one task"),
        ("array=0-3", "the study sets it itself"),
        ("cpus-per-task=many", "cpus_per_task=many: must be a whole number"),
        ("cluster=locl", "did you mean 'local'"),
    ],
)
def test_options_that_cannot_be(options, says):
    with pytest.raises(WhatwhereError, match=says):
        read_slurm(options, Needs(Path("study")))


@needs_submitit
def test_a_machine_without_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WhatwhereError, match="there is no SLURM on this machine"):
        make_executor("slurm", Needs(tmp_path))


@needs_submitit
def test_options_that_slurm_refuses(monkeypatch, tmp_path, disturb):
    """An sbatch that refuses as the real one does: the study ends with its words, and says them once for all runs."""
    Disturbed, *_ = disturb
    said = "sbatch: error: invalid partition specified: nope"
    for name in ("srun", "sbatch"):
        (tmp_path / name).write_text(f"#!/bin/sh\ngrep -q -- '--partition=nope' \"$1\" && echo '{said}' >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    study = Disturbed(tmp_path / "study", "--on", "slurm:partition=nope")
    study.start()
    words = " ".join(study.finish(code=2).split())
    assert f"SLURM refused the jobs of this study: {said}" in words
    assert "Traceback" not in words
    assert study.steps() == 0


def slurm_answers():
    """Whether there is a SLURM whose controller takes jobs."""
    asked = ["sinfo", "--noheader"]
    return shutil.which("sinfo") is not None and subprocess.run(asked, capture_output=True, timeout=30).returncode == 0


def signalled(processes, number, chance):
    """Send a signal to one of these processes, by chance; return it."""
    process = chance.choice(processes)
    process.send_signal(number)
    return process


@needs_submitit
@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_jobs_a_time_limit_a_killed_controller_and_a_killed_study_change_no_bit(tmp_path, disturb, undisturbed):
    Disturbed, workers, table, chance = disturb
    study = Disturbed(tmp_path / "study", "--on", "slurm:cluster=local")
    jobs = f"submitit.core._submit {study.out / 'slurm'}"
    study.start()
    study.wait_for(chance.randrange(1, study.all_steps // 6))
    signalled(workers(jobs), signal.SIGKILL, chance)
    study.wait_for(study.steps() + chance.randrange(1, study.all_steps // 6))
    signalled(workers(jobs), signal.SIGUSR2, chance)  # what SLURM sends before a time limit and a preemption
    study.wait_for(study.steps() + 1)
    signalled(workers(f"submitit.local._local {study.out / 'slurm'}"), signal.SIGKILL, chance)
    study.wait_for(study.steps() + chance.randrange(1, study.all_steps // 6))
    study.kill()
    assert study.steps() < study.all_steps
    study.start()
    study.finish()
    assert table(study.results()) == table(undisturbed)
    logs = "".join(file.read_text() for file in (study.out / "slurm").glob("*_log.out"))
    logs += "".join(file.read_text() for file in (study.out / "slurm").glob("*_log.err"))
    assert "Requeued job" in logs
    assert workers(jobs) == []


@needs_submitit
@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_an_interrupted_study_ends_its_jobs(tmp_path, disturb):
    Disturbed, workers, *_ = disturb
    study = Disturbed(tmp_path / "study", "--on", "slurm:cluster=local")
    study.start()
    study.wait_for(3)
    study.process.send_signal(signal.SIGINT)
    assert "What is finished is kept" in study.finish(code=130)
    until = time.monotonic() + 20
    while workers(str(study.out)) and time.monotonic() < until:
        time.sleep(0.1)
    assert workers(str(study.out)) == []


@needs_submitit
@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(not slurm_answers(), reason="there is no SLURM on this machine, or its controller does not answer")
def test_a_real_slurm(tmp_path, disturb, undisturbed):
    """A job killed, one told to end, one requeued as after a lost node; the study killed: its jobs are found again."""
    Disturbed, _, table, chance = disturb
    study = Disturbed(tmp_path / "study", "--on", "slurm:time=10:parallel=2")
    study.start()
    record = study.out / "slurm" / "slurm.json"
    for command in (["scancel", "--signal=KILL"], ["scancel", "--signal=USR2"], ["scontrol", "requeue"]):
        study.wait_for(study.steps() + chance.randrange(1, study.all_steps // 8))
        going = [job for job in set(json.loads(record.read_text()).values()) if state(job) == "RUNNING"]
        subprocess.run([*command, chance.choice(going)], check=True)
    study.wait_for(study.steps() + chance.randrange(1, study.all_steps // 8))
    study.kill()
    before = json.loads(record.read_text())
    going = {run: job for run, job in before.items() if state(job) in ("RUNNING", "PENDING")}
    assert going
    study.start()
    study.finish()
    assert table(study.results()) == table(undisturbed)
    after = json.loads(record.read_text())
    assert {run: after[run] for run in going} == going


def state(job):
    done = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], capture_output=True, text=True)
    return done.stdout.strip()
