import math
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from whatwhere.data.detection.objects import Box, RawImage, RawObject, clean_box, clean_image

anything = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True), st.floats(-50, 700), st.integers(-50, 700).map(float)
)
side = st.integers(1, 4000)


@given(st.tuples(anything, anything, anything, anything), side, side)
@example((0.0, 0.0, 1e-300, 5.0), 60, 40)
@example((1e308, -1e308, math.inf, 1e308), 60, 40)
@example((-1e308, -1e308, 1e308, 1e308), 60, 40)
@example((3999.9999, 0.0, 4000.0, 5.0), 4000, 40)
def test_a_box_that_is_kept_lies_in_the_image_and_has_an_area(box: Box, width: int, height: int) -> None:
    kept, reason = clean_box(box, width, height)
    if kept is None:
        assert reason
        return
    x1, y1, x2, y2 = kept
    assert 0 <= x1 < x2 <= width
    assert 0 <= y1 < y2 <= height
    assert "cut off" in reason or max(abs(a - b) for a, b in zip(box, kept, strict=True)) <= 1


@given(st.lists(st.tuples(anything, anything, anything, anything), max_size=6), side, side, st.booleans())
def test_an_image_keeps_only_boxes_in_order_as_float32_too(
    boxes: list[Box], width: int, height: int, relative: bool
) -> None:
    objects = [RawObject(i, "cat", box) for i, box in enumerate(boxes, 1)]
    raw = RawImage(Path("a.jpg"), Path("a.xml"), objects, relative=relative)
    found, problems = clean_image(raw, {"cat": 0}, (width, height), upright=True, image_id=1)
    limit = torch.tensor([width, height, width, height], dtype=torch.float32)
    assert bool((found.boxes >= 0).all() and (found.boxes <= limit).all())
    assert bool((found.boxes[:, 2:] > found.boxes[:, :2]).all())
    assert bool((found.areas > 0).all() and found.areas.isfinite().all())
    assert len(found.boxes) + sum("left out" in one.reason for one in problems) == len(boxes)
    assert all(one.path == "a.xml" and one.object.startswith("object ") for one in problems)


@given(st.floats(0, 60), st.floats(0, 60), st.floats(0, 40), st.floats(0, 40))
def test_a_box_in_order_stays_as_it_is(a: float, b: float, c: float, d: float) -> None:
    box = (min(a, b), min(c, d), max(a, b), max(c, d))
    if box[2] - box[0] >= 0.01 and box[3] - box[1] >= 0.01:
        assert clean_box(box, 60, 40) == (box, "")


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((5, 5, 5, 9), "empty"),
        ((5, 9, 9, 5), "inverted"),
        ((math.nan, 5, 9, 9), "not finite"),
        ((-9, 5, -3, 9), "outside"),
        ((60, 5, 70, 9), "outside"),
        ((55, 5, 70, 9), "cut off"),
    ],
)
def test_the_reason_says_what_is_wrong(box: Box, reason: str) -> None:
    assert reason in clean_box(box, 60, 40)[1]
