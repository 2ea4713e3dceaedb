"""Images that do not lie in a folder: streamed from tar files, and rows of a Hugging Face dataset."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from whatwhere.errors import WhatwhereError
from whatwhere.tasks import create
from whatwhere.training import Recipe, load_run, train
from whatwhere.training.loop import Loop

from ..data.conftest import noise_image
from ..data.shards import write_shards

QUICK = {"epochs": 3, "batch_size": 4, "lr": 0.01, "threads": 1, "device": "cpu"}


class Stop(Exception):
    pass


def task(data: str):
    return create("classify", {"data": {"data": data, "size": 16}, "model": {"name": "small-resnet"}})


@pytest.fixture
def shards(tmp_path: Path) -> str:
    pytest.importorskip("webdataset")
    write_shards(tmp_path / "set", "train", [4, 3, 5, 4], broken=(6,))
    write_shards(tmp_path / "set", "val", [3, 4], start=300)
    return f"wds:{tmp_path / 'set'}"


@pytest.fixture
def rows(tmp_path: Path) -> str:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    for name, count in (("train", 16), ("test", 7)):
        part = {"image": [noise_image(i) for i in range(count)], "label": [i % 2 for i in range(count)]}
        made = datasets.Dataset.from_dict(part, features)
        made.save_to_disk(tmp_path / "rows" / name)
    (tmp_path / "rows" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    return f"hf:{tmp_path / 'rows'}"


def stopped(data: str, recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    real = Loop._step

    def step(self, loaded, epoch, number):
        if number == at:
            raise Stop
        return real(self, loaded, epoch, number)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", step)
        with pytest.raises(Stop):
            train(task(data), recipe, folder, progress=False)


def same(one: Path, two: Path) -> bool:
    a, b = (load_file(folder / "last.safetensors") for folder in (one, two))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.filterwarnings("ignore:left out a broken image")
def test_a_streamed_run_goes_on_from_the_end_of_an_epoch_to_the_same_weights(shards, tmp_path, monkeypatch):
    recipe = Recipe(**QUICK)
    whole = train(task(shards), recipe, tmp_path / "whole", progress=False)
    assert [row["step"] for row in whole.rows] == [4, 8, 12]
    assert len(whole.broken) == 1
    assert "/00006: not an image" in whole.broken[0]
    stopped(shards, recipe, tmp_path / "cut", monkeypatch, at=6)
    resumed = train(task(shards), recipe, tmp_path / "cut", resume=True, progress=False)
    assert resumed.headline == whole.headline
    assert same(tmp_path / "whole", tmp_path / "cut")
    by_two = train(task(shards), Recipe(**QUICK, workers=2), tmp_path / "workers", progress=False)
    assert by_two.headline == whole.headline
    assert same(tmp_path / "whole", tmp_path / "workers")


@pytest.mark.filterwarnings("ignore:left out a broken image")
def test_a_stream_has_no_checkpoints_in_the_middle_of_an_epoch(shards, tmp_path):
    with pytest.raises(
        WhatwhereError, match=r"save_every=2: images that are streamed .* give save_every=0 .*stream=false"
    ):
        train(task(shards), Recipe(**QUICK, save_every=2), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    train(task(f"{shards}:stream=false"), Recipe(**QUICK, save_every=2), tmp_path / "run", progress=False)


@pytest.mark.filterwarnings("ignore:left out a broken image")
@pytest.mark.parametrize("kind", ["rows", "indexed"])
def test_rows_and_indexed_tar_files_resume_in_the_middle_of_an_epoch(kind, shards, rows, tmp_path, monkeypatch):
    data = rows if kind == "rows" else f"{shards}:stream=false"
    recipe = Recipe(**QUICK, save_every=1)
    train(task(data), recipe, tmp_path / "whole", progress=False)
    stopped(data, recipe, tmp_path / "cut", monkeypatch, at=6)
    assert len((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()) == 1
    train(task(data), recipe, tmp_path / "cut", resume=True, progress=False)
    assert same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("kind", ["rows", "shards"])
@pytest.mark.filterwarnings("ignore:left out a broken image")
def test_a_relative_folder_is_kept_in_full(kind, shards, rows, tmp_path, monkeypatch):
    data = {"rows": "hf:rows:label=label", "shards": "wds:set:shuffle=3"}[kind]
    monkeypatch.chdir(tmp_path)
    train(task(data), Recipe(**{**QUICK, "epochs": 1}), "run", progress=False)
    monkeypatch.chdir("/")
    run = load_run(tmp_path / "run")
    head, _, folder = data.partition(":")
    assert run.config["config"]["data"]["data"] == f"{head}:{tmp_path}/{folder}"
    assert len(run.task.test_set) == 7
    assert run.task.describe_image(2)


SCRIPT = """
import json, os, sys
import torch
from whatwhere.tasks import create
from whatwhere.training import Recipe, train
import whatwhere.training.loop as loop

data, folder = sys.argv[1:]
task = create("classify", {"data": {"data": data, "size": 16}, "model": {"name": "small-resnet"}})
seen = {"train": [], "test": []}
real = loop.Loop._prepare
def prepare(self, batch, generator):
    seen["test" if generator is None else "train"] += batch["index"].tolist()
    return real(self, batch, generator)
loop.Loop._prepare = prepare
train(task, Recipe(epochs=1, batch_size=4, threads=1, device="cpu", workers=1), folder, progress=False)
with open(f"{folder}/seen-{os.environ['RANK']}.json", "w") as file:
    json.dump(seen, file)
"""


@pytest.mark.slow
def test_two_processes_measure_every_image_once(shards, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    how = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *how, str(script), shards, str(tmp_path / "run")]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    found = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert found.returncode == 0, found.stderr
    parts = [json.loads((tmp_path / "run" / f"seen-{rank}.json").read_text()) for rank in range(2)]
    assert sorted(parts[0]["test"] + parts[1]["test"]) == list(range(7))
    assert [len(part["train"]) for part in parts] == [8, 8]
    assert not set(parts[0]["train"]) & set(parts[1]["train"])  # each has its own files
