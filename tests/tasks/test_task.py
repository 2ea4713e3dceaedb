from dataclasses import dataclass, field

import pytest
import torch
from torch import nn
from torchmetrics import MeanMetric, MetricCollection

from whatwhere.cost import count_parameters
from whatwhere.errors import WhatwhereError
from whatwhere.tasks import (
    CannotDraw,
    CannotWiden,
    Headline,
    Task,
    create,
    entry,
    names,
    plain,
    register,
    restore,
)
from whatwhere.tasks.classify import Classify


@dataclass(frozen=True)
class Inner:
    width: tuple[int, ...] | float | None = None
    name: str = "a"


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    lr: float = 0.1


def test_plain_and_restore_are_inverse():
    value = Outer(Inner((1, 2)), Inner(0.5), 0.2)
    assert plain(value) == {
        "inner": {"width": [1, 2], "name": "a"},
        "maybe": {"width": 0.5, "name": "a"},
        "lr": 0.2,
    }
    assert restore(Outer, plain(value)) == value
    assert restore(Outer, {"lr": 1.0}) == Outer(lr=1.0)


def test_a_misspelt_field_is_named_with_the_nearest():
    with pytest.raises(WhatwhereError, match=r"no field 'inner\.nam'; did you mean 'name'"):
        restore(Outer, {"inner": {"nam": "x"}})


def test_the_register_knows_the_tasks_and_a_new_one_is_one_decorator():
    assert "classify" in names()
    assert entry("classify").title == "Tell apart the classes of images, with cross entropy"

    @register("test-only", Outer)
    class Only(Classify):
        """Only a test."""

        def __init__(self, config, resolved=None):
            self.given = config, resolved

    assert "test-only" in names()
    assert create("test-only", {"lr": 3.0, "resolved": {"a": 1}}).given == (Outer(lr=3.0), {"a": 1})
    assert create("test-only").given == (Outer(), None)


def test_only_a_task_can_be_registered():
    with pytest.raises(WhatwhereError, match=r"'no-task': .* is no subclass of whatwhere.tasks.Task"):
        register("no-task", Outer)(Outer)
    assert "no-task" not in names()
    with pytest.raises(WhatwhereError, match="'classify' is registered already"):
        register("classify", Outer)(Classify)


class Numbers:
    """Three numbers as images of one pixel."""

    def __len__(self):
        return 3

    def __getitems__(self, indices):
        index = torch.tensor(indices)
        return {"images": index.float()[:, None, None, None], "index": index}

    def name(self, index):
        return f"folder/number {index}"


class Least(Task):
    """What a task needs, and no more."""

    name = "least"
    headline = Headline("loss", "loss", higher_is_better=False)
    config = {"width": 3}  # noqa: RUF012
    train_set = test_set = Numbers()

    def build(self, seed, *, pretrained=True):
        return nn.Conv2d(1, 1, 1)

    def prepare(self, batch, device, generator=None):
        return {"images": batch["images"].to(device)}

    def loss(self, model, batch):
        return model(batch["images"]).square().mean(), {}

    def metrics(self):
        return MetricCollection({"loss": MeanMetric()})

    def score(self, model, batch, metrics):
        metrics["loss"].update(self.loss(model, batch)[0])


def test_what_a_task_may_leave_out():
    task = Least()
    batch = task.example(5, torch.device("cpu"))
    assert batch["images"].flatten().tolist() == [0, 1, 2, 0, 1]
    assert task.inputs(batch) is batch["images"]
    assert task.predict(nn.Identity(), batch) is batch["images"]
    assert task.describe_data() == "least: 3 images to learn from, 3 to test on"
    assert task.describe_image(2) == "number 2"
    assert (task.network, task.evidence, task.class_scores) == (None, None, False)
    with pytest.raises(CannotDraw, match="the task 'least' does not say how to draw"):
        task.look(nn.Identity(), 1)
    with pytest.raises(WhatwhereError, match=r"override Task\.attended"):
        task.attended("se")
    with pytest.raises(CannotWiden, match="how to widen the network of the task 'least' is not known"):
        task.widened(10)


def test_a_task_needs_the_rest():
    class Less(Task):
        """Nothing."""

    with pytest.raises(TypeError, match="abstract"):
        Less()


def test_another_network_is_another_config():
    data = {"data": "scenes:size=32:train=20:test=10"}
    task = create("classify", {"data": data, "model": {"attention": "se"}})
    assert task.attended("cbam") == {**task.config, "model": {**task.config["model"], "attention": "cbam"}}
    plain_task = create("classify", task.attended("none"))
    wider = create("classify", plain_task.widened(5_000))
    plain_count, wider_count = (count_parameters(t.build(0, pretrained=False)) for t in (plain_task, wider))
    assert plain_count + 5_000 <= wider_count < plain_count + 20_000
    with pytest.raises(CannotWiden, match="no pretrained weights"):
        create("classify", {**task.config, "model": {**task.config["model"], "weights": "w.pth"}}).widened(1)


def test_open_data_is_shared_only_where_it_is_the_same():
    data = {"data": "scenes:size=32:train=20:test=10"}
    first = create("classify", {"data": data})
    same, other = (
        create("classify", first.config),
        create("classify", {"data": {"data": "scenes:size=20:train=20:test=10"}}),
    )
    same.share_data(first)
    assert same.train_set is first.train_set
    other.share_data(first)
    assert other.train_set is not first.train_set


def test_an_unknown_task_is_named_with_the_nearest():
    with pytest.raises(WhatwhereError, match="did you mean 'classify'"):
        create("clasify")
    with pytest.raises(WhatwhereError, match="ClassifyConfig"):
        create("classify", Outer())
