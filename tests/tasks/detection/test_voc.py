"""VOC's average precision against transcriptions of the devkit, and cases with known values."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whatwhere.tasks.detection.scores import DetectionScores
from whatwhere.tasks.detection.voc import average_precision, voc_ap

BOX = [0.0, 0.0, 10.0, 10.0]
FAR = [50.0, 50.0, 60.0, 60.0]


def ap_2010(rec, prec):
    """VOCap.m of the devkit of 2010."""
    mrec, mpre = [0.0, *rec, 1.0], [0.0, *prec, 0.0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    return sum((mrec[i] - mrec[i - 1]) * mpre[i] for i in range(1, len(mrec)) if mrec[i] != mrec[i - 1])


def ap_2007(rec, prec):
    """VOCevaldet.m of the devkit of 2007: eleven recalls."""
    return (
        sum(max((p for r, p in zip(rec, prec, strict=True) if r >= t / 10 - 1e-12), default=0.0) for t in range(11))
        / 11
    )


def overlap_of(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area - width * height)


def slow(images, ap):
    """VOCevaldet.m, word by word, without its + 1; None without an object that counts."""
    npos = sum(not skip for _, _, _, ignored in images for skip in ignored)
    if not npos:
        return None
    rows = [(s, i, box) for i, (boxes, scores, _, _) in enumerate(images) for s, box in zip(scores, boxes, strict=True)]
    rows.sort(key=lambda row: -row[0])
    det = [[False] * len(objects) for _, _, objects, _ in images]
    tp = fp = 0
    rec, prec = [], []
    for _, i, box in rows:
        objects, ignored = images[i][2:]
        ovmax, jmax = -math.inf, None
        for j, one in enumerate(objects):
            if (ov := overlap_of(box, one)) > ovmax:
                ovmax, jmax = ov, j
        if ovmax >= 0.5:
            if not ignored[jmax]:
                tp, fp = (tp, fp + 1) if det[i][jmax] else (tp + 1, fp)
                det[i][jmax] = True
        else:
            fp += 1
        if tp + fp:
            rec.append(tp / npos)
            prec.append(tp / (tp + fp))
    return ap(rec, prec)


def tensors(images):
    """The same images as tensors."""
    return [
        (
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.tensor(scores),
            torch.tensor(objects, dtype=torch.float32).reshape(-1, 4),
            torch.tensor(ignored, dtype=torch.bool),
        )
        for boxes, scores, objects, ignored in images
    ]


# Whole corners on a coarse grid: overlaps of exactly 0.5, equal boxes. Scores of a few values: ties.
boxes = st.tuples(*[st.integers(0, 3)] * 2, *[st.integers(1, 3)] * 2).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


@st.composite
def one_image(draw):
    found, objects = draw(st.lists(boxes, max_size=7)), draw(st.lists(boxes, max_size=4))
    scores = draw(st.lists(st.sampled_from([0.25, 0.5, 0.75, 1.0]), min_size=len(found), max_size=len(found)))
    return found, scores, objects, draw(st.lists(st.booleans(), min_size=len(objects), max_size=len(objects)))


@given(st.lists(one_image(), min_size=1, max_size=5))
@settings(max_examples=150)
def test_equal_to_the_devkit(images):
    for points, ap in ((None, ap_2010), (11, ap_2007)):
        wanted, found = slow(images, ap), voc_ap(tensors(images), points=points)
        assert math.isnan(found) if wanted is None else found == pytest.approx(wanted, abs=1e-12)


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 5))
@settings(max_examples=150)
def test_areas_under_curves(hits, missed):
    tp = np.cumsum(hits, dtype=float)
    recall = tp / max(sum(hits) + missed, 1)
    precision = tp / np.arange(1, len(hits) + 1)
    assert average_precision(recall, precision) == pytest.approx(ap_2010(recall, precision), abs=1e-12)
    assert average_precision(recall, precision, points=11) == pytest.approx(ap_2007(recall, precision), abs=1e-12)


@pytest.mark.parametrize(
    ("images", "whole", "eleven"),
    [
        ([([BOX], [0.9], [BOX, FAR], [False, False])], 0.5, 6 / 11),  # one of two found: recalls 0 to 0.5
        ([([FAR, BOX], [0.9, 0.8], [BOX], [False])], 0.5, 0.5),  # a false alarm first
        ([([BOX, FAR], [0.9, 0.8], [BOX], [False])], 1.0, 1.0),  # a false alarm after all are found costs nothing
        ([([BOX, BOX, FAR], [0.9, 0.8, 0.7], [BOX, FAR], [False, False])], 0.5 + 0.5 * 2 / 3, (6 + 5 * 2 / 3) / 11),
        ([([BOX, BOX, FAR], [0.9, 0.8, 0.7], [BOX, FAR], [True, False])], 1.0, 1.0),  # two boxes on an ignored one
        ([([BOX], [0.9], [], []), ([BOX], [0.8], [BOX], [False])], 0.5, 0.5),  # an image without objects
        ([([], [], [BOX], [False])], 0.0, 0.0),
    ],
)
def test_known_values(images, whole, eleven):
    assert voc_ap(tensors(images)) == pytest.approx(whole, abs=1e-12)
    assert voc_ap(tensors(images), points=11) == pytest.approx(eleven, abs=1e-12)


def test_nothing_that_counts_is_nan():
    assert math.isnan(voc_ap([]))
    assert math.isnan(voc_ap(tensors([([BOX], [0.9], [BOX], [True])])))


@pytest.mark.parametrize(("bottom", "hit"), [(5.0, 1.0), (4.9, 0.0)])
def test_the_least_overlap_of_a_hit_without_the_devkits_extra_pixel(bottom, hit):
    # With the devkit's + 1 the second box would overlap by 11 · 5.9 / 121 = 0.54.
    assert voc_ap(tensors([([[0.0, 0.0, 10.0, bottom]], [0.9], [BOX], [False])])) == hit


def test_a_box_belongs_to_the_object_that_it_overlaps_most_even_if_that_one_is_taken():
    objects = [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 13.0]]
    found = [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 11.0]]  # the second overlaps the other object by 11 / 13
    assert voc_ap(tensors([(found, [0.9, 0.8], objects, [False, False])])) == 0.5


@pytest.mark.parametrize("mark", ["crowd", "difficult"])
def test_what_is_ignored_in_voc50_and_what_in_cocos_numbers(mark):
    truth = {
        "image_id": 1,
        "size": (80, 80),
        "name": "a.jpg",
        "boxes": torch.tensor([BOX, FAR]),
        "labels": torch.tensor([0, 0]),
        "crowd": torch.tensor([False, False]),
        "difficult": torch.tensor([False, False]),
        "areas": torch.tensor([100.0, 100.0]),
    }
    truth[mark] = torch.tensor([False, True])
    scores = DetectionScores(["cat"])
    found = {"boxes": torch.tensor([BOX]), "labels": torch.tensor([0]), "scores": torch.tensor([0.9])}
    scores.update([found], [truth])
    measured = scores.compute()
    assert measured["voc50"] == 1
    assert measured["ar100"] == pytest.approx(1 if mark == "crowd" else 0.5)
