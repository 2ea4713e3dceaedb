import json

import pytest
import torch
from PIL import Image

from whatwhere.data import DataConfig, Preprocessing
from whatwhere.errors import WhatwhereError
from whatwhere.networks import ModelConfig
from whatwhere.tasks import create
from whatwhere.tasks.classify import Classify, ClassifyConfig

TINY = DataConfig(data="scenes", size=32, train_limit=24, test_limit=12)


@pytest.fixture(scope="module")
def task():
    return Classify(ClassifyConfig(data=TINY))


def test_config_is_json_and_gives_the_same_task_without_opening_the_data(task, monkeypatch):
    config = json.loads(json.dumps(task.config))
    assert config["resolved"]["size"] == 32
    assert config["model"]["classes"] == len(config["resolved"]["classes"]) == 10

    def refuse(*_, **__):
        raise AssertionError("the data was opened")

    monkeypatch.setattr("whatwhere.tasks.classify.open_data", refuse)
    again = create("classify", config)
    assert again.config == task.config
    one, two = task.build(3).state_dict(), again.build(3).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    with pytest.raises(AssertionError, match="opened"):
        _ = again.train_set


def test_first_weights_follow_from_the_seed_and_are_shared_with_the_attended_network(task):
    plain = task.build(0).state_dict()
    other = task.build(1).state_dict()
    assert any(not torch.equal(plain[key], other[key]) for key in plain)
    attended = Classify(ClassifyConfig(data=TINY, model=ModelConfig(attention="se"))).build(0).state_dict()
    assert len(attended) > len(plain)
    assert all(torch.equal(plain[key], attended[key]) for key in plain)


def test_building_leaves_the_callers_random_numbers(task):
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    task.build(0)
    assert torch.equal(torch.rand(2), expected)


def test_prepare_normalises_and_augments_as_a_function_of_the_generator(task):
    raw = task.train_set.__getitems__([0, 1, 2, 3])
    before = raw["images"].clone()
    plain = task.prepare(raw, torch.device("cpu"))
    assert torch.equal(raw["images"], before)
    expected = (before.double() / 255 - 0.5) / 0.25
    torch.testing.assert_close(plain["images"].double(), expected, rtol=0, atol=1e-6)
    one, two = (task.prepare(raw, torch.device("cpu"), torch.Generator().manual_seed(5))["images"] for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, plain["images"])
    none = Classify(ClassifyConfig(data=TINY, augment="none"))
    still = none.prepare(raw, torch.device("cpu"), torch.Generator().manual_seed(5))["images"]
    assert torch.equal(still, plain["images"])


def test_loss_and_metrics_equal_their_definitions(task):
    logits = torch.randn(12, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = task.test_set.labels
    model = torch.nn.Module()
    model.forward = lambda images: logits.float()
    batch = {"images": torch.zeros(12), "labels": labels}
    loss, logs = task.loss(model, batch)
    logp = logits.log_softmax(1)
    smooth = -(0.9 * logp[range(12), labels] + 0.1 * logp.mean(1)).mean()
    assert loss.item() == pytest.approx(smooth.item(), abs=1e-5)
    order = logits.argsort(1, descending=True)
    top1 = (order[:, 0] == labels).double().mean().item()
    assert logs["top1"].item() == pytest.approx(top1)
    metrics = task.metrics()
    task.score(model, batch, metrics)
    found = {key: float(value) for key, value in metrics.compute().items()}
    assert found["top1"] == pytest.approx(top1)
    assert found["top5"] == pytest.approx((order[:, :5] == labels[:, None]).any(1).double().mean().item())
    assert found["loss"] == pytest.approx(-logp[range(12), labels].mean().item(), abs=1e-5)


def test_folders_two_classes_no_top5_absolute_path_and_changed_data(tmp_path, monkeypatch):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            place = tmp_path / "pets" / split / name
            place.mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (20, 20), (i * 90, 10, 200)).save(place / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    task = Classify(ClassifyConfig(data=DataConfig(data="pets", size=24)))
    assert task.classes == ("cat", "dog")
    assert "top5" not in task.metrics()
    assert task.config["data"]["data"] == str(tmp_path / "pets")
    assert "cat" in task.train_set.name(0)
    for split in ("train", "val"):
        (tmp_path / "pets" / split / "dog").rename(tmp_path / "pets" / split / "eel")
    with pytest.raises(WhatwhereError, match="has changed"):
        _ = create("classify", task.config).train_set


def test_normalisation_of_pretrained_weights_comes_from_timm():
    from whatwhere.tasks.classify import _usual_size
    from whatwhere.tasks.network import trained_config

    def statistics(model):
        expected = Preprocessing.of(trained_config(model))
        return expected.mean, expected.std

    assert statistics(ModelConfig("resnet18", pretrained=True)) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert _usual_size(ModelConfig("resnet18", pretrained=True)) == 224
    assert statistics(ModelConfig("tf_efficientnet_lite0", pretrained=True))[0] != (0.485, 0.456, 0.406)
    assert statistics(ModelConfig("resnet18")) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert _usual_size(ModelConfig("small-resnet")) is None


@pytest.mark.parametrize(
    ("option", "words"), [({"label_smoothing": 1.0}, "label_smoothing"), ({"augment": "hard"}, "light")]
)
def test_bad_options(option, words):
    with pytest.raises(WhatwhereError, match=words):
        ClassifyConfig(**option)


def test_weights_of_a_file(tmp_path, monkeypatch):
    """A run starts from them, remembers where they lie from any folder, and can be looked at when they are gone."""
    from whatwhere.checkpoints import build

    torch.manual_seed(5)
    trained = build(ModelConfig("small-resnet", classes=10), 20)
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    monkeypatch.chdir(tmp_path)
    data = DataConfig("scenes:size=20:train=20:test=10")
    task = Classify(ClassifyConfig(data, ModelConfig("small-resnet", "cbam", weights="weights.pth")))
    assert task.config["model"]["weights"] == str(tmp_path / "weights.pth")
    there = task.build(0).state_dict()
    assert all(torch.equal(there[key], value) for key, value in trained.state_dict().items())
    (tmp_path / "weights.pth").unlink()
    assert set(task.build(0, pretrained=False).state_dict()) == set(there)
    with pytest.raises(WhatwhereError, match=r"weights\.pth"):
        task.build(0)
