"""A real run on real images, killed for real (SIGKILL) at random moments, must end in the same bits."""

import random
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

SCRIPT = """
import sys
from whatwhere.tasks import create
from whatwhere.training import Recipe, train

cbam = {"model": {"attention": "cbam"}}
config = {
    "classify": {"data": {"data": "scenes", "size": 32, "train_limit": 160, "test_limit": 32}, **cbam},
    "detect": {"data": {"data": ["scenes:size=64:train=160:test=16"]}, "channels": 32, **cbam},
    "caption": {"data": {"data": "scenes:train=160:test=16"}, "attention": "c-s", "layers": 2, "hidden": 32},
}
task = create(sys.argv[3], config[sys.argv[3]])
recipe = Recipe(epochs=6, batch_size=16, save_every=int(sys.argv[2]), ema=0.95, log_every=1, threads=1)
train(task, recipe, sys.argv[1], resume=True, progress=False)
"""


def start(folder, save_every, task):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), str(save_every), task])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("task", ["classify", "detect", "caption"])
@pytest.mark.parametrize("save_every", [0, 1], ids=["every-epoch", "every-step"])
def test_killed_runs_end_in_the_same_bits(tmp_path, save_every, task):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start(whole, save_every, task).wait() == 0
    moments = random.Random(save_every)
    kills = 0
    for _ in range(4):
        process = start(cut, save_every, task)
        metrics = cut / "metrics.jsonl"
        before = metrics.read_bytes() if metrics.exists() else b""
        while process.poll() is None and (not metrics.exists() or metrics.read_bytes() == before):
            time.sleep(0.005)  # until the run goes on; the cut at the resume also counts
        time.sleep(moments.uniform(0, 1.2))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 2, "the runs ended before they were killed"
    assert start(cut, save_every, task).wait() == 0
    for name in ("last", "best"):
        one, two = (load_file(folder / f"{name}.safetensors") for folder in (whole, cut))
        assert one.keys() == two.keys()
        differing = [key for key in one if one[key].numpy().tobytes() != two[key].numpy().tobytes()]
        assert not differing
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (whole, cut)]
    assert len(lines[0]) == len(lines[1]) == 6 + 6 * 10
    assert not list(cut.glob("*.tmp"))
