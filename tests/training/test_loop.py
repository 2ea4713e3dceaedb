import json
import math
import time

import pytest
import torch
from safetensors.torch import load_file

from whatwhere.errors import WhatwhereError
from whatwhere.training import NotFinite, Recipe, load_config, load_run, train
from whatwhere.training.folder import RunFolder

QUICK = {"epochs": 3, "batch_size": 8, "lr": 0.01, "threads": 1}


def weights(folder, name="last"):
    return load_file(folder / f"{name}.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class Stop(Exception):
    pass


def interrupt(task, recipe, folder, monkeypatch, at, resume=False):
    from whatwhere.training.loop import Loop

    real = Loop._step

    def step(self, loaded, epoch, number):
        if number == at:
            raise Stop
        return real(self, loaded, epoch, number)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", step)
        with pytest.raises(Stop):
            train(task, recipe, folder, resume=resume, progress=False)


def test_it_learns_and_the_folder_holds_everything(toy, tmp_path):
    seen = []
    result = train(toy(), Recipe(**QUICK, log_every=5), tmp_path / "a", progress=False, on_epoch=seen.append)
    assert result.last > 0.8
    assert result.best == max(result.headline)
    assert result.headline[result.best_epoch - 1] == result.best
    assert len(result.headline) == 3
    assert [row["epoch"] for row in seen] == [1, 2, 3]
    assert seen == result.rows
    rows = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "step"] == [5, 10, 15]
    assert [row["step"] for row in rows if row["kind"] == "epoch"] == [5, 10, 15]
    assert all(key in rows[-1] for key in ("train_loss", "train_top1", "test_top1", "test_loss", "lr", "seconds"))
    assert list((tmp_path / "a" / "tensorboard").glob("events*"))
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["recipe"]["lr"] == 0.01
    assert config["versions"]["torch"] == torch.__version__


def test_scores_of_images_are_those_of_the_last_epoch(toy, tmp_path):
    """Their mean is the headline metric after it, and no file is written before it."""
    seen = []
    here = RunFolder(tmp_path / "a")
    result = train(
        toy(), Recipe(**QUICK), here.path, progress=False, on_epoch=lambda _: seen.append(here.read_scores())
    )
    assert seen[:-1] == [None, None]
    found = here.read_scores()
    assert found["index"].tolist() == list(range(20))
    assert found["score"].mean() == pytest.approx(result.last)
    assert set(found["score"].tolist()) <= {0.0, 1.0}


def test_config_alone_reproduces_the_run(toy, tmp_path):
    train(toy(n=24), Recipe(**QUICK, ema=0.9), tmp_path / "a", progress=False)
    torch.rand(7)  # the caller's random numbers play no part
    train(*load_config(tmp_path / "a"), tmp_path / "b", progress=False)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert same(weights(tmp_path / "a", "best"), weights(tmp_path / "b", "best"))


def test_another_seed_gives_another_run_and_the_callers_random_numbers_stay(toy, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(toy(), Recipe(**QUICK, seed=0), tmp_path / "a", progress=False)
    assert torch.equal(torch.rand(3), expected)
    train(toy(), Recipe(**QUICK, seed=1), tmp_path / "b", progress=False)
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"ema": 0.9, "optimizer": "sgd", "lr": 0.05},
        {"optimizer": "sgd", "momentum": 0.0, "save_every": 2, "clip": 0.0},
        {"channels_last": True, "amp": "bf16", "save_every": 1, "ema": 0.99},
    ],
    ids=["adamw", "sgd-ema", "sgd-plain-steps", "bf16-channels-last"],
)
@pytest.mark.parametrize("at", [1, 4, 5, 7, 13])
def test_interrupted_runs_end_in_the_same_bits(toy, tmp_path, monkeypatch, more, at):
    recipe = Recipe(**{**QUICK, **more})
    whole = train(toy(), recipe, tmp_path / "whole", progress=False)
    interrupt(toy(), recipe, tmp_path / "cut", monkeypatch, at)
    resumed = train(toy(), recipe, tmp_path / "cut", resume=True, progress=False)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert same(weights(tmp_path / "whole", "best"), weights(tmp_path / "cut", "best"))
    assert resumed.headline == whole.headline
    timing = ("seconds", "images_per_second")
    strip = [[{k: v for k, v in row.items() if k not in timing} for row in r.rows] for r in (whole, resumed)]
    assert strip[0] == strip[1]


def test_a_kill_between_measuring_and_saving_leaves_no_double_rows(toy, tmp_path, monkeypatch):
    from whatwhere.training.state import State

    recipe = Recipe(**QUICK)
    real = State.save

    def save(self, path):
        if self.counters.epoch == 2:
            raise Stop
        real(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(State, "save", save)
        with pytest.raises(Stop):
            train(toy(), recipe, tmp_path / "a", progress=False)
    result = train(toy(), recipe, tmp_path / "a", resume=True, progress=False)
    assert [row["epoch"] for row in result.rows] == [1, 2, 3]


def test_resume_of_a_finished_run_returns_at_once_and_of_nothing_starts(toy, tmp_path):
    first = train(toy(), Recipe(**QUICK), tmp_path / "a", resume=True, progress=False)
    before = (tmp_path / "a" / "last.safetensors").stat().st_mtime_ns
    second = train(toy(), Recipe(**QUICK), tmp_path / "a", resume=True, progress=False)
    assert second == first
    assert (tmp_path / "a" / "last.safetensors").stat().st_mtime_ns == before


def test_a_folder_is_not_used_twice_and_differing_fields_are_named(toy, tmp_path):
    train(toy(), Recipe(**QUICK), tmp_path / "a", progress=False)
    with pytest.raises(WhatwhereError, match="already holds a run"):
        train(toy(), Recipe(**QUICK), tmp_path / "a", progress=False)
    with pytest.raises(WhatwhereError) as error:
        train(toy(n=32), Recipe(**{**QUICK, "lr": 0.5}), tmp_path / "a", resume=True, progress=False)
    assert "recipe.lr: 0.01 there, 0.5 here" in str(error.value)
    assert "config.n: 40 there, 32 here" in str(error.value)
    assert "batch_size" not in str(error.value)
    train(toy(), Recipe(**QUICK, workers=3), tmp_path / "a", resume=True, progress=False)


def test_a_loss_that_is_not_finite_stops_and_names_the_images(toy, tmp_path):
    with pytest.raises(NotFinite) as error:
        train(toy(poison=17, norm=False), Recipe(**QUICK), tmp_path / "a", progress=False)
    assert "blob 17" in error.value.images
    assert (error.value.epoch, len(error.value.images)) == (1, 8)
    assert f"step {error.value.step}," in str(error.value)
    assert "blob" in str(error.value)
    assert "No checkpoint" in str(error.value)


def test_a_gradient_that_is_not_finite_stops_and_the_last_checkpoint_is_good(toy, tmp_path, monkeypatch):
    task = toy()
    real = task.loss
    calls = 0

    def loss(model, batch):
        nonlocal calls
        calls += 1
        value, logs = real(model, batch)
        if calls == 8:  # a finite loss whose gradient is not
            value = value + (model[0].weight.flatten()[0] * 0).abs().sqrt()
        return value, logs

    monkeypatch.setattr(task, "loss", loss)
    with pytest.raises(NotFinite, match="the gradient in epoch 2, step 3,"):
        train(task, Recipe(**QUICK), tmp_path / "a", progress=False)
    kept = weights(tmp_path / "a")
    assert all(value.isfinite().all() for value in kept.values() if value.is_floating_point())
    resumed = train(toy(), Recipe(**QUICK), tmp_path / "a", resume=True, progress=False)
    whole = train(toy(), Recipe(**QUICK), tmp_path / "b", progress=False)
    assert resumed.headline == whole.headline


def test_broken_images_are_listed_and_an_empty_batch_is_skipped(toy, tmp_path, capsys):
    result = train(toy(n=16, broken=tuple(range(15))), Recipe(**QUICK), tmp_path / "a", progress=True)
    assert len(result.broken) == 15
    assert "blob 3: torn" in result.broken
    assert "15 images could not be read" in capsys.readouterr().out
    assert all(math.isfinite(row["train_loss"]) for row in result.rows)


def test_workers_do_not_change_the_result_and_report_broken_images(toy, tmp_path):
    one = train(toy(broken=(3, 5)), Recipe(**{**QUICK, "epochs": 1}), tmp_path / "a", progress=False)
    two = train(toy(broken=(3, 5)), Recipe(**{**QUICK, "epochs": 1}, workers=2), tmp_path / "b", progress=False)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert one.broken == two.broken == ["blob 3: torn", "blob 5: torn"]


def test_load_run_gives_the_measured_weights(toy, tmp_path):
    result = train(toy(), Recipe(**QUICK, ema=0.8), tmp_path / "a", progress=False)
    run = load_run(tmp_path / "a", "last")
    assert not run.model.training
    batch = run.task.prepare(run.task.test_set.__getitems__(range(20)), torch.device("cpu"))
    with torch.no_grad():
        right = (run.model(batch["images"]).argmax(1) == batch["labels"]).float().mean()
    assert right.item() == pytest.approx(result.last)
    assert run.value == pytest.approx(result.last)
    best = load_run(tmp_path / "a")
    assert (best.epoch, best.value) == (result.best_epoch, result.best)
    with pytest.raises(WhatwhereError, match="not a run folder"):
        load_run(tmp_path)
    with pytest.raises(WhatwhereError, match="'best' or 'last'"):
        load_run(tmp_path / "a", "first")


def test_a_damaged_checkpoint_is_an_error_and_is_left_alone(toy, tmp_path):
    from whatwhere.training import DamagedCheckpoint

    recipe = Recipe(**QUICK)
    train(toy(), recipe, tmp_path / "a", progress=False)
    last = tmp_path / "a" / "best.safetensors"
    content = bytearray(last.read_bytes())
    content[-3] ^= 1
    last.write_bytes(bytes(content))
    with pytest.raises(DamagedCheckpoint, match="checksum"):
        load_run(tmp_path / "a")
    last = tmp_path / "a" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:100])
    with pytest.raises(DamagedCheckpoint, match=r"last\.safetensors is damaged"):
        train(toy(), recipe, tmp_path / "a", resume=True, progress=False)
    assert last.stat().st_size == 100


def test_a_small_set_makes_a_small_batch(toy, tmp_path):
    train(toy(n=6), Recipe(**QUICK), tmp_path / "a", progress=False)
    assert len((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()) == 3


def test_training_images_that_changed_in_number_are_noticed_on_resume(toy, tmp_path, monkeypatch):
    interrupt(toy(), Recipe(**QUICK), tmp_path / "a", monkeypatch, at=7)
    changed = toy()
    changed.train_set = toy(n=48).train_set
    with pytest.raises(WhatwhereError, match=r"15 steps, .* 18: the training images have changed"):
        train(changed, Recipe(**QUICK), tmp_path / "a", resume=True, progress=False)


def test_tensorboard_shows_each_step_once_after_a_resume(toy, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = Recipe(**QUICK, log_every=1)
    interrupt(toy(), recipe, tmp_path / "a", monkeypatch, at=3)  # before the first checkpoint
    time.sleep(1.1)  # event files are named, and read, by the second
    interrupt(toy(), recipe, tmp_path / "a", monkeypatch, at=8, resume=True)
    time.sleep(1.1)
    result = train(toy(), recipe, tmp_path / "a", resume=True, progress=False)
    events = EventAccumulator(str(tmp_path / "a" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("step/train/loss")] == list(range(1, 16))
    assert [event.step for event in events.Scalars("test/top1")] == [5, 10, 15]
    assert [event.value for event in events.Scalars("test/top1")] == pytest.approx(result.headline)


def test_fp16_without_a_gpu_is_a_clear_error(toy, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("fp16 runs here")
    with pytest.raises(WhatwhereError, match="fp16"):
        train(toy(), Recipe(**QUICK, amp="fp16"), tmp_path / "a", progress=False)
