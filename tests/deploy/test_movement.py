"""The statistics that folding decides by, and what images may be."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whatwhere.data import DataConfig
from whatwhere.deploy import Batches, TaskImages
from whatwhere.deploy.movement import Movement
from whatwhere.deploy.quality import compare
from whatwhere.errors import WhatwhereError
from whatwhere.graph.difference import difference
from whatwhere.tasks import create
from whatwhere.tasks.classify import ClassifyConfig


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 7), st.floats(0, 10), st.integers(0, 99))
def test_movement_is_what_numpy_says(count, channels, batch, offset, seed):
    gates = offset + torch.rand(count, channels, generator=torch.Generator().manual_seed(seed))
    movement = Movement(gates[0])
    for part in gates.split(batch):
        movement.add(part)
    values = gates.double().numpy()
    assert movement.count == count
    np.testing.assert_allclose(movement.mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(movement.deviation, values.std(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(movement.high - movement.low, np.ptp(values, axis=0))
    assert movement.relative == pytest.approx(values.std(0).max() / values.mean(), abs=1e-9)


def test_gates_that_stand_still_have_no_movement_at_all():
    movement = Movement(torch.tensor([0.1, 0.7]))
    movement.add(torch.tensor([0.1, 0.7]).expand(1000, 2))
    assert movement.relative == 0.0
    closed = Movement(torch.zeros(2))
    closed.add(torch.zeros(3, 2))
    assert closed.relative == 0.0


def test_batches_of_every_kind():
    x, y = torch.randn(4, 3, 5, 5), torch.arange(4)
    for data in (x, [x], [(x, y)], [[x, y, "more"]], [{"images": x, "labels": y}], {"images": x}, iter([x])):
        batches = Batches(data)
        for _ in range(2):
            ((images, labels),) = batches
            assert images.equal(x)
            assert labels is None or labels.equal(y)
    assert list(Batches([x[:0], x])) == [(x, None)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (torch.zeros(3, 8, 8), "float32 \\(3, 8, 8\\)"),
        ([torch.zeros(2, 3, 8, 8, dtype=torch.uint8)], "uint8"),
        ([{"pixels": 1}], "NoneType"),
        ([(torch.zeros(2, 3, 8, 8), torch.zeros(2))], "labels that are torch.float32"),
        ([(torch.zeros(2, 3, 8, 8), [0, 1])], "labels that are list"),
        ([(torch.zeros(2, 3, 8, 8), torch.zeros(3, dtype=torch.int64))], "\\(2,\\)"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_batch(data, says):
    with pytest.raises(WhatwhereError, match=says):
        list(Batches(data))


def test_images_of_a_task():
    task = create("classify", ClassifyConfig(DataConfig("scenes:size=20:train=30:test=12")))
    batches = list(TaskImages(task, batch_size=5))
    assert [len(b["labels"]) for b in batches] == [5, 5, 2]
    assert torch.cat([b["labels"] for b in batches]).equal(task.test_set.labels)
    every = task.prepare(task.test_set.__getitems__(list(range(12))), torch.device("cpu"))["images"]
    assert torch.cat([b["images"] for b in batches]).equal(every)
    few = list(TaskImages(task, "train", limit=10))
    assert few[0]["labels"].equal(task.train_set.labels[::3])
    assert len(Batches(TaskImages(task, limit=99)).first()) == 12
    for wrong in ({"part": "val"}, {"limit": 0}, {"batch_size": 0}):
        with pytest.raises(WhatwhereError, match=next(iter(wrong))):
            TaskImages(task, **wrong)


def test_difference():
    one = torch.tensor([1.0, -4.0])
    assert difference([one], [one]) == 0.0
    assert difference([one + 0.4], [one]) == pytest.approx(0.1)
    assert difference([one, one], [one]) == float("inf")
    assert difference([one[:1]], [one]) == float("inf")
    assert difference([one * float("nan")], [one]) == float("inf")
    assert difference([one], [one * float("inf")]) == float("inf")
    assert difference([torch.zeros(2)], [torch.zeros(2)]) == 0.0
    assert difference([torch.zeros(0, 2)], [torch.zeros(0, 2)]) == 0.0


def test_compare_counts():
    scores = torch.eye(3)[torch.tensor([0, 1, 2, 0])]
    x = torch.zeros(4, 1, 2, 2)
    data = Batches([(x, torch.tensor([0, 1, 1, 1]))])
    found = compare({"a": lambda _: [scores], "b": lambda _: [scores.roll(1, 1)]}, data)
    assert (found["a"].top1, found["a"].same, found["a"].difference) == (0.5, 1.0, 0.0)
    assert (found["b"].top1, found["b"].same, found["b"].difference) == (0.25, 0.0, 1.0)
    assert compare({"a": lambda _: [scores]}, Batches(x))["a"].top1 is None
    maps = compare({"a": lambda _: [x]}, data)["a"]
    assert (maps.top1, maps.same, maps.images) == (None, None, 4)
