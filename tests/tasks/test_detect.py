"""The task detect: its batches, losses, scores, networks, and what it finds."""

import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

import whatwhere as ww
from whatwhere.data import DetectionDataConfig
from whatwhere.errors import WhatwhereError
from whatwhere.networks import ModelConfig
from whatwhere.networks.detectors import DETECTORS
from whatwhere.surgery import attentions
from whatwhere.tasks import CannotNarrow, TaskImages, create
from whatwhere.tasks.detect import Detect
from whatwhere.tasks.detection.config import DetectConfig
from whatwhere.training import Recipe, load_run, train

DATA = DetectionDataConfig(("scenes:size=64:train=24:test=12",))
TINY = DetectConfig(DATA, channels=32)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def task():
    return Detect(TINY)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detect") / "run"
    data = {"data": ["scenes:size=64:train=120:test=16"]}
    task = create("detect", {"data": data, "channels": 32, "model": {"attention": "cbam"}})
    result = train(task, Recipe(epochs=3, batch_size=12, ema=0.9), folder, progress=False)
    return task, folder, result


def test_config_is_json_and_gives_the_same_task_without_opening_the_data(task, monkeypatch):
    config = json.loads(json.dumps(task.config))
    assert config["resolved"]["size"] == 64
    assert config["channels"] == 32
    assert (config["frozen_norms"], config["frozen_stages"]) == (False, 0)

    def refuse(*_, **__):
        raise AssertionError("the data was opened")

    monkeypatch.setattr("whatwhere.tasks.detect.open_detection", refuse)
    again = create("detect", config)
    assert again.config == task.config
    one, two = task.build(3).state_dict(), again.build(3).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_prepare_pads_normalises_and_leaves_out_what_is_not_learned(task):
    raw = task.train_set.__getitems__([0, 1])
    raw["images"][1] = raw["images"][1][:, :40, :50]
    raw["crowd"][0] = torch.ones_like(raw["crowd"][0])
    batch = task.prepare(raw, CPU)
    assert batch["images"].shape == (2, 3, 64, 64)
    expected = (raw["images"][1].double() / 255 - 0.5) / 0.25
    torch.testing.assert_close(batch["images"][1, :, :40, :50].double(), expected, rtol=0, atol=1e-6)
    assert batch["images"][1, :, 40:].abs().max() == batch["images"][1, :, :, 50:].abs().max() == 0
    assert len(batch["targets"][0]["labels"]) == 0
    assert torch.equal(batch["targets"][1]["labels"], raw["labels"][1] + 1)
    assert batch["sides"] == [(64, 64), (40, 50)]


def test_augmentation_is_a_function_of_the_generator(task):
    raw = task.train_set.__getitems__([0, 1, 2])

    def prepare(seed):
        return task.prepare(raw, CPU, torch.Generator().manual_seed(seed))

    one, same, other = prepare(0), prepare(0), prepare(1)
    assert torch.equal(one["images"], same["images"])
    assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(one["targets"], same["targets"], strict=True))
    assert one["images"].shape != other["images"].shape or not torch.equal(one["images"], other["images"])


@pytest.mark.parametrize("where", ["backbone", "fpn", "both"])
def test_attention_goes_where_it_is_asked_for_and_changes_nothing_at_the_start(task, where):
    attended = Detect(replace(TINY, model=ModelConfig(attention="cbam"), where=where)).build(0).eval()
    plain = task.build(0).eval()
    places = {name.split(".")[1] for name in attentions(attended)}
    assert places == {"backbone": {"body"}, "fpn": {"fpn"}, "both": {"body", "fpn"}}[where]
    state = attended.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for one, two in zip(plain(images)[0].values(), attended(images)[0].values(), strict=True):
            assert torch.equal(one, two)


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_detector_takes_a_step_and_is_scored(detector):
    task = Detect(replace(TINY, detector=detector))
    model = task.build(0).train()
    batch = task.prepare(task.train_set.__getitems__([0, 1]), CPU, torch.Generator().manual_seed(0))
    loss, logs = task.loss(model, batch)
    loss.backward()
    assert torch.isfinite(loss)
    torch.testing.assert_close(torch.stack(list(logs.values())).sum(), loss.detach())
    metrics = task.metrics()
    with torch.no_grad():
        task.score(model.eval(), task.prepare(task.test_set.__getitems__([0, 1]), CPU), metrics)
    measured = metrics.compute()
    assert 0 <= measured["map"] <= measured["ap50"] <= 1
    assert {f"map/{name}" for name in task.classes} <= measured.keys()


def test_perfect_boxes_score_one(task):
    class Oracle(torch.nn.Module):
        def forward(self, images):
            truths = [task.test_set.truth(index) for index in range(len(images))]
            return [
                {"boxes": t["boxes"], "labels": t["labels"] + 1, "scores": torch.ones(len(t["labels"]))} for t in truths
            ]

    metrics = task.metrics()
    task.score(Oracle(), task.prepare(task.test_set.__getitems__(list(range(12))), CPU), metrics)
    measured = metrics.compute()
    assert measured["map"] == measured["ap50"] == measured["voc50"] == pytest.approx(1)


def test_boxes_are_scored_in_the_pixels_of_the_image(tmp_path):
    """An image of 200×100 pixels is shown to the network with 64×32: boxes come back in its own pixels."""
    (tmp_path / "a.png").parent.mkdir(exist_ok=True)
    Image.new("RGB", (200, 100), "grey").save(tmp_path / "a.png")

    class Oracle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, images):
            assert images.shape == (1, 3, 32, 64)
            boxes = torch.tensor([[16.0, 8.0, 32.0, 24.0], [60.0, 4.0, 90.0, 40.0], [70.0, 0.0, 80.0, 9.0]])
            return [{"boxes": boxes, "labels": torch.tensor([3, 1, 1]), "scores": torch.tensor([0.9, 0.8, 0.7])}]

    found = Detect(TINY).find(Oracle(), tmp_path / "a.png", score=0.75)
    torch.testing.assert_close(found.boxes, torch.tensor([[50.0, 25.0, 100.0, 75.0], [187.5, 12.5, 200.0, 100.0]]))
    assert found.labels.tolist() == [2, 0]


def test_frozen_parts_of_a_network_with_weights(tmp_path):
    file = tmp_path / "resnet.safetensors"
    ww.save(ww.build(ModelConfig("resnet10t", classes=7), size=64), file)
    trained = ModelConfig("resnet10t", attention="se", weights=str(file))
    task = Detect(replace(TINY, model=trained))
    assert task.config["frozen_norms"] is True
    assert task.config["frozen_stages"] == 2
    assert task.preprocessing.mean == pytest.approx((0.485, 0.456, 0.406))
    model = task.build(0)
    body = model.backbone.body.network
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in body.modules())
    frozen = {name.split(".")[0] for name, p in body.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "layer1"}  # a frozen normalisation has no parameters
    assert all(p.requires_grad for name, p in body.named_parameters() if ".attention." in name)
    free = Detect(replace(TINY, model=trained, frozen_norms=False, frozen_stages=0)).build(0)
    assert all(p.requires_grad for p in free.parameters())


def test_the_same_cost_control(task, tmp_path):
    count = ww.cost.count_parameters
    extra = 5000
    wider = create("detect", task.widened(extra))
    assert count(wider.build(0)) >= count(task.build(0)) + extra
    assert wider.config["model"]["width"] is not None
    file = tmp_path / "weights.safetensors"
    ww.save(ww.build(ModelConfig("small-resnet"), size=64), file)
    trained = Detect(replace(TINY, model=ModelConfig(weights=str(file))))
    wider = create("detect", trained.widened(extra))
    assert wider.config["channels"] == 64
    assert wider.config["model"] == trained.config["model"]
    with pytest.raises(CannotNarrow, match="detector"):
        task.narrowed(10**6)


def test_training_writes_predictions_and_what_it_measured(run):
    task, folder, result = run
    assert result.last == result.headline[-1]
    row = result.rows[-1]
    assert {"test_map", "test_ap50", "test_voc50", "test_map/seven", "train_classification"} <= row.keys()
    predictions = json.loads((folder / "predictions.json").read_text())
    truth = json.loads((folder / "truth.json").read_text())
    assert {one["image_id"] for one in predictions} <= {one["id"] for one in truth["images"]}
    assert len(truth["images"]) == 16
    assert sum(len(record.labels) for record in task.test_set.records) == len(truth["annotations"])


def test_a_run_finds_and_draws(run, tmp_path):
    _, folder, _ = run
    again = load_run(folder)
    found = again.task.find(again.model, again.task.test_set.pixels[0], score=0.0)
    assert found.boxes.shape == (len(found.scores), 4)
    drawing = again.task.look(again.model, 3, title="plain")
    assert "miss" in drawing.caption or "hit" in drawing.caption
    assert drawing.save(tmp_path / "look.png").stat().st_size > 10_000


def test_images_for_export_have_one_size(task):
    for batch in TaskImages(task, "test", limit=4, batch_size=2):
        assert batch["images"].shape == (2, 3, 64, 64)
        assert "labels" not in batch


def test_evidence_of_gates(run):
    task, folder, _ = run
    measured = task.evidence.measure(load_run(folder).model)
    assert 0 < measured["area"] < 1
    assert 0 < measured["gate"] < 1
    plain = task.evidence.measure(Detect(TINY).build(0))
    assert plain["area"] == measured["area"]
    assert math.isnan(plain["gate"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detector": "yolo"}, "detector='yolo'"),
        ({"where": "head"}, "where='head'"),
        ({"augment": "strong"}, "augment='strong'"),
        ({"channels": 50}, "channels=50: must be a multiple of 32"),
        ({"frozen_stages": -1}, "frozen_stages=-1"),
    ],
)
def test_wrong_configs(options, message):
    with pytest.raises(WhatwhereError, match=message):
        replace(TINY, **options)


def test_data_that_has_changed(task):
    other = Detect(DetectConfig(DetectionDataConfig(("scenes:size=96:train=24:test=12",))))
    config = {**task.config, "data": other.config["data"]}
    with pytest.raises(WhatwhereError, match="has changed: it now has 10 classes"):
        _ = create("detect", config).train_set
