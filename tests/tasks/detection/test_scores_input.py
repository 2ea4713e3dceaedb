"""Input of the scores that is odd or wrong."""

import math

import numpy as np
import pytest
import torch

from whatwhere.errors import WhatwhereError
from whatwhere.tasks.detection.scores import DetectionScores
from whatwhere.tasks.detection.voc import voc_ap

CLASSES = ["ant", "bee", "cat"]


def image(number, *, right=(0, 1, 2)):
    """An image with an object of each class; the boxes of the classes ``right`` are right."""
    boxes = torch.tensor([[0.0, 0, 20, 20], [30, 0, 60, 30], [0, 40, 50, 90]])
    labels, no = torch.arange(3), torch.zeros(3, dtype=torch.bool)
    found = boxes.clone()
    for label in set(range(3)) - set(right):
        found[label] += 100
    truth = {"image_id": number, "size": (200, 200), "name": f"{number}.jpg", "boxes": boxes, "labels": labels}
    truth |= {"crowd": no, "difficult": no, "areas": torch.tensor([400.0, 900.0, 2500.0])}
    return {"boxes": found, "labels": labels.clone(), "scores": torch.tensor([0.9, 0.8, 0.7])}, truth


def gathered(pairs, **options):
    scores = DetectionScores(CLASSES, **options)
    scores.update([found for found, _ in pairs], [truth for _, truth in pairs])
    return scores


@pytest.mark.parametrize("ids", [(1, 2, 3), (3, 1, 2), (90, 7, 0), np.array([5, 4, 3])])
def test_the_numbers_of_classes_may_be_in_any_order(ids):
    scores = gathered([image(1, right=[0])], category_ids=ids)
    measured = scores.compute()
    wanted = {"ant": 1.0, "bee": 0.0, "cat": 0.0}
    assert {name: measured[f"map/{name}"] for name in CLASSES} == pytest.approx(wanted)
    assert {name: measured[f"ap50/{name}"] for name in CLASSES} == pytest.approx(wanted)
    assert [one["category_id"] for one in scores.predictions()] == list(ids)


@pytest.mark.parametrize(
    ("classes", "ids", "message"),
    [
        (["a", "a"], None, "classes must be distinct, got a, a"),
        (["a", "b"], [4, 4], "category_ids must be distinct, got 4, 4"),
        (["a", "b"], [], "2 classes need as many numbers, got 0"),
    ],
)
def test_classes_and_numbers_are_distinct(classes, ids, message):
    with pytest.raises(WhatwhereError, match=message):
        DetectionScores(classes, ids)


def test_an_image_that_comes_twice_counts_once():
    pairs = [image(1), image(2, right=[0])]
    once, twice = gathered(pairs), gathered([*pairs, pairs[1]])
    assert twice.compute() == pytest.approx(once.compute(), nan_ok=True, abs=0)
    assert twice.predictions() == once.predictions()
    assert twice.truth() == once.truth()


def test_large_numbers_of_images():
    pairs = [image(number, right=[number % 3]) for number in range(1, 7)]
    large = [(found, {**truth, "image_id": truth["image_id"] + 2**60}) for found, truth in pairs]
    scores = gathered(large)
    assert scores.compute() == pytest.approx(gathered(pairs).compute(), nan_ok=True, abs=0)
    assert [one["id"] for one in scores.truth()["images"]] == [2**60 + number for number in range(1, 7)]


def test_all_images_of_an_update_or_none():
    scores, (good, truth) = DetectionScores(CLASSES), image(1)
    bad = {**good, "scores": torch.full((3,), math.inf)}
    with pytest.raises(WhatwhereError, match=r"1\.jpg: .* not finite"):
        scores.update([good, bad], [truth, truth])
    scores.compute()
    assert scores.truth()["images"] == []
    with pytest.raises(WhatwhereError, match="2 predictions for 1 images"):
        scores.update([good, good], [truth])


@pytest.mark.parametrize("labels", [torch.tensor([0, 1, 3]), torch.tensor([-1, 0, 1]), torch.tensor([0.0, 1.0, 2.0])])
@pytest.mark.parametrize("where", [0, 1])
def test_labels_that_are_no_class(labels, where):
    pair = list(image(1))
    pair[where] = {**pair[where], "labels": labels}
    with pytest.raises(WhatwhereError, match=r"1\.jpg: labels must be from 0 to 2"):
        gathered([pair])


def test_boxes_may_be_changed_after_an_update():
    found, truth = image(1)
    scores = gathered([(found, truth)])
    for value in found.values():
        value.zero_()
    assert scores.compute()["map"] == pytest.approx(1)


def test_without_compute_there_is_nothing_to_write(tmp_path):
    scores = gathered([image(1)])
    for call in (scores.predictions, scores.truth, lambda: scores.write(tmp_path)):
        with pytest.raises(WhatwhereError, match="call compute first"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_boxes_without_area_are_no_hits():
    point = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    assert voc_ap([(point, torch.tensor([0.9]), point, torch.tensor([False]))]) == 0
