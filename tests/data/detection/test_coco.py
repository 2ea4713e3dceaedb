import json
import math
from pathlib import Path
from typing import Any

import pytest

from whatwhere.errors import WhatwhereError

from .conftest import MODES, coco_content, note, opened, pass_over, problem, write_coco, write_image

both = pytest.mark.parametrize("memory_gb", MODES.values(), ids=MODES)
A, B = ({"id": i, "file_name": f"{name}.jpg", "width": 60, "height": 40} for i, name in ((1, "a"), (2, "b")))


def test_boxes_areas_crowds_and_the_numbers_of_the_file(tmp_path: Path) -> None:
    images = [{"id": 42, "file_name": "a.jpg", "width": 60, "height": 40}, {"id": 7, "file_name": "b.jpg"}]
    write_coco(
        tmp_path,
        coco_content(
            images,
            [
                note(5, 42, 7, (10, 5, 20.5, 15), area=33.5),
                note(6, 42, 3, (0, 0, 60, 40), iscrowd=1),
                note(8, 42, 3, (2, 2, 4, 4), area="much"),
            ],
        ),
    )
    train, test = opened(tmp_path)
    assert (train.classes, train.category_ids, train.image_ids) == (("cat", "dog"), (3, 7), [42, 7])
    truth = train.truth(0)
    assert truth["boxes"].tolist() == [[10, 5, 30.5, 20], [0, 0, 60, 40], [2, 2, 6, 6]]
    assert truth["labels"].tolist() == [1, 0, 0]
    assert truth["areas"].tolist() == [33.5, 2400, 16]
    assert truth["crowd"].tolist() == [False, True, False]
    assert len(train.truth(1)["boxes"]) == 0  # no objects: all background
    assert pass_over(train) == [0, 1]
    assert pass_over(test) == [0]


ODD = {
    "outside": (note(9, bbox=(100, 5, 10, 10)), "object 9 (cat)", "outside"),
    "sticks out": (note(9, bbox=(50, 5, 40, 10)), "object 9 (cat)", "cut off"),
    "empty": (note(9, bbox=(5, 5, 0, 10)), "object 9 (cat)", "empty"),
    "inverted": (note(9, bbox=(30, 5, -10, 10)), "object 9 (cat)", "inverted"),
    "nan": (note(9, bbox=(math.nan, 5, 10, 10)), "object 9 (cat)", "not finite"),
    "infinite": (note(9, bbox=(5, 5, math.inf, 10)), "object 9 (cat)", "not finite"),
    "three numbers": (note(9, bbox=(5, 5, 10)), "object 9 (cat)", "four numbers"),
    "words": (note(9, bbox=[5, 5, "wide", 10]), "object 9 (cat)", "four numbers"),
    "no box": (note(9, bbox=None), "object 9 (cat)", "no bbox"),
    "no class": (note(9, category=None), "object 9", "no class"),
    "unknown class": (note(9, category=99), "object 9 (99)", "99"),
    "unknown image": (note(9, image=99), "object 9 (cat)", "99"),
    "no mapping": (["box"], "object 2", "mapping"),
}


@both
@pytest.mark.parametrize("what", ODD)
def test_odd_annotations_are_reported_and_nothing_raises(tmp_path: Path, what: str, memory_gb: float) -> None:
    odd, named, reason = ODD[what]
    file = write_coco(tmp_path, coco_content([A, B], [note(1), odd]))
    train, test = opened(tmp_path, memory_gb=memory_gb)
    assert reason in problem(train, file, named)
    assert pass_over(train) == [0, 1]
    assert pass_over(test) == [0]
    assert len(train.truth(0)["boxes"]) == (2 if what == "sticks out" else 1)


RAISES = {
    "image id is a list": (note(9, image=[1]), TypeError),
    "category is a list": (note(9, category=[3]), TypeError),
    "a number too large for a float": (note(9, bbox=(5, 5, 10**400, 10)), OverflowError),
    "an area too large for a float": (note(9, area=10**400), OverflowError),
}


@pytest.mark.parametrize("what", RAISES)
def test_annotations_of_wrong_kinds_never_raise(tmp_path: Path, what: str) -> None:
    odd, _ = RAISES[what]
    write_coco(tmp_path, coco_content([A], [note(1), odd]))
    assert pass_over(opened(tmp_path).train) == [0]


@pytest.mark.parametrize("sides", [{"width": math.nan, "height": 40}, {"width": math.inf, "height": 40}])
def test_sides_that_are_not_finite_never_raise(tmp_path: Path, sides: dict[str, Any]) -> None:
    write_coco(tmp_path, coco_content([{**A, **sides}], [note(1)]))
    assert pass_over(opened(tmp_path).train) == [0]


def test_a_category_of_a_wrong_kind_never_raises(tmp_path: Path) -> None:
    content = coco_content([A], [note(1)], [{"id": 3, "name": "cat"}, {"id": [4], "name": "dog"}])
    write_coco(tmp_path, content, content)
    opened(tmp_path)


@pytest.mark.parametrize("area", [0, -5])
def test_an_area_that_is_not_positive_is_that_of_the_box(tmp_path: Path, area: float) -> None:
    write_coco(tmp_path, coco_content([A], [note(1, bbox=(5, 5, 10, 10), area=area)]))
    assert opened(tmp_path).train.truth(0)["areas"].tolist() == [100]


def test_odd_images(tmp_path: Path) -> None:
    images = [A, {**B, "id": 1}, {"id": 5}, {"file_name": "c.jpg"}, "d.jpg", {**B, "id": 6, "file_name": "gone.jpg"}]
    file = write_coco(tmp_path, coco_content(images, [note(1)]))
    (tmp_path / "train2017" / "gone.jpg").unlink()
    train, _ = opened(tmp_path)
    assert "id 1 is taken" in problem(train, file, "image b.jpg")
    assert [problem(train, file, f"image {i}") for i in (3, 4, 5)] == ["no id or no file_name, left out"] * 3
    assert [(Path(one.path).name, one.reason) for one in train.broken] == [("gone.jpg", "there is no such file")]
    assert pass_over(train) == [0]


def test_another_size_than_the_file_is_reported_and_the_file_counts(tmp_path: Path) -> None:
    file = write_coco(tmp_path, coco_content([{**A, "width": 99}], [note(1)]))
    train, _ = opened(tmp_path)
    assert "99×40" in problem(train, file, "a.jpg")
    assert train.truth(0)["size"] == (40, 60)


@pytest.mark.parametrize("content", ["", '{"images": [', "\xff", "[]", "{}", '{"images": 3}'])
def test_a_file_that_is_not_coco(tmp_path: Path, content: str) -> None:
    file = write_coco(tmp_path, content)
    with pytest.raises(WhatwhereError, match="instances_train2017"):
        opened(tmp_path)
    file.write_bytes(b"\xff\xfe{")
    with pytest.raises(WhatwhereError, match="is not JSON"):
        opened(tmp_path)


def test_categories_of_one_name_are_reported(tmp_path: Path) -> None:
    content = coco_content([A], [note(1, category=3), note(2, category=7)], [{"id": i, "name": "cat"} for i in (3, 7)])
    write_coco(tmp_path, content, content)
    try:
        train, _ = opened(tmp_path)
    except WhatwhereError:
        return
    assert train.problems


def test_the_dummy_category_of_roboflow_is_no_class(tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets"},
        {"id": 2, "name": "dog", "supercategory": "pets"},
    ]
    for part in ("train", "valid"):
        write_image(tmp_path / part / "a.jpg")
        content = coco_content([A], [note(1, category=1), note(2, category=2)], categories)
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(content))
    train, _ = opened(tmp_path)
    assert (train.classes, train.category_ids) == (("cat", "dog"), (1, 2))


def test_categories_that_differ_are_refused(tmp_path: Path) -> None:
    other = coco_content(annotations=[note()], categories=[{"id": 3, "name": "cat"}])
    write_coco(tmp_path, coco_content(annotations=[note()]), other)
    with pytest.raises(WhatwhereError, match=r"different categories .*dog 7"):
        opened(tmp_path)


LAYOUTS = {
    "coco": ("annotations/instances_{}2017.json", "{}2017/a.jpg", ("train", "val")),
    "coco in images": ("annotations/instances_{}2017.json", "images/{}2017/a.jpg", ("train", "val")),
    "flat": ("{}.json", "images/a.jpg", ("train", "val")),
    "flat with parts": ("annotations/{}.json", "images/{}/a.jpg", ("train", "test")),
    "roboflow": ("{}/_annotations.coco.json", "{}/a.jpg", ("train", "valid")),
    "roboflow with test": ("{}/_annotations.coco.json", "{}/a.jpg", ("train", "test")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str) -> None:
    file, image, parts = LAYOUTS[layout]
    for part in parts:
        write_image(tmp_path / image.format(part))
        (tmp_path / file.format(part)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file.format(part)).write_text(json.dumps(coco_content([A], [note(1)])))
    for dataset, part in zip(opened(tmp_path), parts, strict=True):
        assert dataset.name(0) == str(tmp_path / image.format(part))
        assert pass_over(dataset) == [0]


def test_two_folders_have_image_ids_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_coco(tmp_path / name, coco_content([A], [note(1)]))
    train, _ = opened(tmp_path / "one", tmp_path / "two")
    assert len(set(train.image_ids)) == len(train) == 2
