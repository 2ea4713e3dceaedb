"""Hits, false alarms and misses of one image."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from whatwhere.tasks.detection.matching import match

BOX = [0.0, 0.0, 10.0, 10.0]
boxes = st.tuples(*[st.integers(0, 3)] * 2, *[st.integers(1, 3)] * 2).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


def image(found, objects, ignored=None, overlap=0.5):
    """Match ``(box, label, score)`` to ``(box, label)``."""
    one, two = ([row[0] for row in rows] for rows in (found, objects))
    return match(
        torch.tensor(one, dtype=torch.float32).reshape(-1, 4),
        torch.tensor([row[1] for row in found], dtype=torch.int64),
        torch.tensor([row[2] for row in found]),
        torch.tensor(two, dtype=torch.float32).reshape(-1, 4),
        torch.tensor([row[1] for row in objects], dtype=torch.int64),
        None if ignored is None else torch.tensor(ignored, dtype=torch.bool),
        overlap,
    )


@st.composite
def scenes(draw):
    found = draw(st.lists(st.tuples(boxes, st.integers(0, 1), st.sampled_from([0.2, 0.5, 0.9])), max_size=8))
    objects = draw(st.lists(st.tuples(boxes, st.integers(0, 1)), max_size=5))
    return found, objects, draw(st.lists(st.booleans(), min_size=len(objects), max_size=len(objects)))


@given(scenes())
def test_every_box_and_every_object_is_in_one_place(scene):
    found, objects, ignored = scene
    result = image(found, objects, ignored)
    hit, taken = [b for b, _ in result.hits], [k for _, k in result.hits]
    assert sorted(taken + result.misses) == [k for k, skip in enumerate(ignored) if not skip]
    assert len(set(hit)) == len(hit)
    assert not set(hit) & set(result.false_alarms)
    left = set(range(len(found))) - set(hit) - set(result.false_alarms)
    if not found or not objects:
        assert left == set()
        return
    ious = box_iou(torch.tensor([f[0] for f in found]).float(), torch.tensor([o[0] for o in objects]).float())
    on = lambda b, k: found[b][1] == objects[k][1] and float(ious[b, k]) >= 0.5  # noqa: E731
    assert all(on(b, k) for b, k in result.hits)
    assert all(any(on(b, k) and ignored[k] for k in range(len(objects))) for b in left)
    order = lambda b: (-found[b][2], b)  # noqa: E731
    for b in result.false_alarms:  # every object that it could have had went to a box before it
        assert all(any(k == t and order(h) < order(b) for h, t in result.hits) for k in range(len(objects)) if on(b, k))


def test_a_box_takes_the_free_object_that_it_overlaps_most():
    tall = [0.0, 0.0, 10.0, 13.0]
    found = [(BOX, 0, 0.9), ([0.0, 0.0, 10.0, 11.0], 0, 0.8), (BOX, 0, 0.7)]
    assert image(found, [(BOX, 0), (tall, 0)]) == ([(0, 0), (1, 1)], [2], [])


def test_of_equal_scores_the_first_box_counts():
    assert image([(BOX, 0, 0.5)] * 100, [(BOX, 0)]) == ([(0, 0)], list(range(1, 100)), [])


@pytest.mark.parametrize(("overlap", "hits"), [(0.5, [(0, 0)]), (0.51, [])])
def test_the_least_overlap(overlap, hits):
    assert image([([0.0, 0.0, 10.0, 5.0], 0, 0.5)], [(BOX, 0)], overlap=overlap).hits == hits


def test_another_class_is_no_hit():
    assert image([(BOX, 1, 0.5)], [(BOX, 0)]) == ([], [0], [0])
    assert image([(BOX, 1, 0.5)], [(BOX, 0)], [True]) == ([], [0], [])


def test_an_object_that_counts_goes_before_one_that_is_ignored():
    near = [0.0, 0.0, 10.0, 11.0]
    found = [(BOX, 0, 0.9), (BOX, 0, 0.8), (BOX, 0, 0.7)]
    assert image(found, [(BOX, 0), (near, 0)], [True, False]) == ([(0, 1)], [], [])


def test_nothing_at_all():
    assert image([], []) == ([], [], [])
    assert image([], [(BOX, 0)]) == ([], [], [0])
    assert image([(BOX, 0, 0.5)], []) == ([], [0], [])
