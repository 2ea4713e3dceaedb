"""Studies that are collected: what is said while runs are missing, and which looks are taken."""

import json
from dataclasses import replace

import numpy as np
import pytest

from whatwhere.data import DataConfig
from whatwhere.studies import Outcome, StudyConfig, study
from whatwhere.studies.folder import StudyFolder
from whatwhere.tasks.classify import ClassifyConfig
from whatwhere.training import Recipe

CONFIG = StudyConfig(
    config=ClassifyConfig(DataConfig("scenes:size=20:train=40:test=20")),
    attention=("cbam",),
    seeds=4,
    recipe=Recipe(epochs=1, batch_size=20, threads=1),
    images=0,
    costs=False,
    jobs=1,
)
NOISE = np.random.default_rng(0).normal(0, 1, 100)
VALUES = {
    "plain": lambda s: 70 + NOISE[s],
    "cbam": lambda s: 80 + NOISE[s] + 0.1 * NOISE[50 + s],
    "wider": lambda s: 71 + 5 * NOISE[30 + s],
}


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A function that begins a study, and one that collects it with so many runs of each network finished."""
    monkeypatch.setattr("whatwhere.studies.measure.evidence", lambda *_: {})
    monkeypatch.setattr("whatwhere.studies.measure.looks", lambda *_: ([], []))
    finished = {}

    def read(job):
        value = VALUES[job.arm](job.seed)
        there = job.seed < finished[job.arm]
        return Outcome(job.arm, job.seed, [value], [1.0], 60.0, [], machines=[{"gpu": "none"}]) if there else None

    monkeypatch.setattr("whatwhere.studies.runs.read_job", read)
    out = tmp_path / "study"

    def begin(**options):
        StudyFolder(replace(CONFIG, out=out, **options)).claim()
        return out

    def collect(plain, cbam, wider, **options):
        finished.update(plain=plain, cbam=cbam, wider=wider)
        return study(replace(CONFIG, out=out, collect=True, **options), progress=False, command="whatwhere study")

    return begin, collect


def looks(out):
    return json.loads((out / "study.json").read_text())["looks"]


def words(results):
    return [row.verdict.words for row in results.compared]


def test_no_verdict_while_runs_are_missing(begun):
    begin, collect = begun
    out = begin()
    early = collect(4, 4, 3, on="slurm:partition=gpu")  # which need not be there to collect
    assert words(early) == ["no verdict while runs are missing"] * 2
    assert [len(row.differences) for row in early.compared] == [4, 3]
    assert early.remarks[-1] == "1 of 12 runs are missing: wider, seed 3 (not begun)."
    assert early.machine["training"] == "finished runs, collected, 1 threads each"
    assert (early.looks, looks(out)) == ([], []), "it is no look"
    done = collect(4, 4, 4)
    assert words(done)[0] == "better"
    assert "4, was fixed before the first run" in done.methods
    assert not any("missing" in remark for remark in done.remarks)
    assert (len(done.looks), looks(out)) == (1, [4])


def test_nothing_is_finished(begun):
    begin, collect = begun
    out = begin()
    results = collect(0, 0, 0)
    assert results.rows[0].headline is None
    assert "12 of 12 runs are missing" in results.remarks[-1]
    assert "did not finish any of its runs" in (out / "report.html").read_text()


def test_a_verdict_with_fewer_seeds_is_a_look_that_was_not_planned(begun):
    begin, collect = begun
    out = begin()
    three = collect(3, 3, 3, seeds=3)
    assert words(three)[0] == "better"
    assert any("begun with another number of seeds" in remark for remark in three.remarks)
    assert "3, was fixed before the first verdict" in three.methods
    assert looks(out) == [3]
    four = collect(4, 4, 4)
    assert four.rules.plan.counts == (3, 4)
    assert any("looked at before, with 3 seeds" in remark for remark in four.remarks)


def test_looks_that_are_complete_are_taken(begun):
    begin, collect = begun
    plan = {"until_decided": True, "max_seeds": 9}
    out = begin(**plan)
    results = collect(6, 3, 5, **plan)
    assert [look.seeds for look in results.looks] == [3]
    assert results.rows[1].verdict == results.looks[0].verdicts["cbam"]
    assert words(results) == ["better", "no verdict while runs are missing"]
    assert [len(row.differences) for row in results.compared] == [3, 5]
    assert results.ended == "The look at 6 seeds was not taken: runs are missing."
    assert results.remarks[-1] == "1 of 15 runs are missing: wider, seed 5 (not begun)."
    assert results.ended in (out / "report.html").read_text()
    assert looks(out) == [3]
    later = collect(9, 3, 9, **plan)
    assert [look.seeds for look in later.looks] == [3, 6, 9]
    assert "looks at 3, 6 and 9 seeds were fixed before the first run" in later.methods
