"""The same call under torchrun and accelerate launch, with two processes on the CPU."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

SCRIPT = """
import os, sys
from whatwhere.tasks import create
from whatwhere.training import Recipe, train
import whatwhere.training.loop as loop

folder, stop, broken = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "poison"
data = {"data": "scenes", "size": 32, "train_limit": 64, "test_limit": 21}
task = create("classify", {"data": data, "model": {"name": "small-resnet", "attention": "se"}, "augment": "none"})
if broken:
    real = task.loss
    def loss(model, batch):
        value, logs = real(model, batch)
        return (value * float("nan") if os.environ["RANK"] == "1" else value), logs
    task.loss = loss
real_step = loop.Loop._step
def step(self, loaded, epoch, number):
    if number == stop:
        sys.exit(0)
    return real_step(self, loaded, epoch, number)
loop.Loop._step = step
recipe = Recipe(epochs=2, batch_size=16, ema=0.9, save_every=1, threads=1, device="cpu")
result = train(task, recipe, folder, resume=True, progress=False)
if int(os.environ.get("RANK", 0)) == 0:
    print("HEADLINE", result.headline)
"""


def launch(tmp_path, folder, *, stop=-1, mode="clean", with_accelerate=False):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    how = (
        ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
         "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
        if with_accelerate
        else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    )  # fmt: skip
    command = [sys.executable, *how, str(script), str(folder), str(stop), mode]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=500)


@pytest.mark.slow
def test_two_processes_train_resume_and_measure_every_image_once(tmp_path):
    whole = launch(tmp_path, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    cut = launch(tmp_path, tmp_path / "cut", stop=5)
    assert cut.returncode == 0, cut.stderr
    rows = (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 1
    resumed = launch(tmp_path, tmp_path / "cut")
    assert resumed.returncode == 0, resumed.stderr
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "cut"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]  # written once, by the main process
    right = [row["test_top1"] * 21 for row in rows]  # 21 images, shared unevenly, none counted twice
    assert right == pytest.approx([round(value) for value in right], abs=1e-4)
    scores = np.load(tmp_path / "whole" / "scores.npz")
    assert scores["index"].tolist() == list(range(21))
    assert scores["score"].sum() == pytest.approx(right[-1], abs=1e-4)


@pytest.mark.slow
def test_accelerate_launch_gives_the_same_as_torchrun(tmp_path):
    ours = launch(tmp_path, tmp_path / "a")
    theirs = launch(tmp_path, tmp_path / "b", with_accelerate=True)
    assert theirs.returncode == 0, theirs.stderr
    assert ours.returncode == 0, ours.stderr
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["processes"] == 2
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("a", "b"))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_in_one_process_stops_all(tmp_path):
    found = launch(tmp_path, tmp_path / "a", mode="poison")
    assert found.returncode != 0
    assert found.stderr.count("NotFinite: the loss in epoch 1, step 1,") == 2
    assert not (tmp_path / "a" / "last.safetensors").exists()
