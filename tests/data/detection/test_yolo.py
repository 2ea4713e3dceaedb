from pathlib import Path

import pytest

from whatwhere.errors import WhatwhereError

from .conftest import MODES, opened, pass_over, problem, write_image, write_yolo

pytest.importorskip("yaml")
both = pytest.mark.parametrize("memory_gb", MODES.values(), ids=MODES)
FINE = "0 0.5 0.5 0.4 0.4\n"


def test_shares_become_pixels_and_polygons_become_boxes(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": "1 0.5 0.5 0.5 0.25\n\n0 0.25 0.25 0.5 0.75 0.75 0.5\n", "b": ""})
    train, test = opened(tmp_path)
    assert (train.classes, train.category_ids, train.image_ids) == (("cat", "dog"), (1, 2), [1, 2])
    assert train.truth(0)["boxes"].tolist() == [[15, 15, 45, 25], [15, 10, 45, 30]]
    assert train.truth(0)["labels"].tolist() == [1, 0]
    assert [one.object for one in train.problems] == ["class dog"]
    assert pass_over(train) == [0, 1]
    assert pass_over(test) == [0]


ODD = {
    "outside": ("0 1.5 0.5 0.2 0.2", "(cat)", "outside"),
    "sticks out": ("0 0.9 0.5 0.5 0.2", "(cat)", "cut off"),
    "empty": ("0 0.5 0.5 0 0.2", "(cat)", "empty"),
    "inverted": ("0 0.5 0.5 -0.2 0.2", "(cat)", "inverted"),
    "nan": ("0 nan 0.5 0.2 0.2", "(cat)", "not finite"),
    "infinite": ("0 0.5 0.5 inf 0.2", "(cat)", "not finite"),
    "polygon with nan": ("0 0.1 0.1 nan 0.5 0.9 0.9", "(cat)", "not finite"),
    "words": ("cat 0.5 0.5 0.2 0.2", "", "numbers"),
    "missing coordinate": ("0 0.5 0.5 0.2", "(cat)", "4 numbers"),
    "only a class": ("0", "(cat)", "1 numbers"),
    "confidence": ("0 0.5 0.5 0.2 0.2 0.9", "(cat)", "6 numbers"),
    "unknown class": ("7 0.5 0.5 0.2 0.2", "(7)", "among the 2 classes"),
    "class below 0": ("-1 0.5 0.5 0.2 0.2", "(-1)", "among the 2 classes"),
    "class is no whole number": ("0.5 0.5 0.5 0.2 0.2", "(0.5)", "among the 2 classes"),
    "class is nan": ("nan 0.5 0.5 0.2 0.2", "(nan)", "among the 2 classes"),
    "class is huge": ("1e999 0.5 0.5 0.2 0.2", "(1e999)", "among the 2 classes"),
}


@both
@pytest.mark.parametrize("what", ODD)
def test_odd_lines_are_reported_and_nothing_raises(tmp_path: Path, what: str, memory_gb: float) -> None:
    line, label, reason = ODD[what]
    write_yolo(tmp_path, {"a": FINE + line + "\n"})
    train, test = opened(tmp_path, memory_gb=memory_gb)
    named = f"object 2 {label}".strip()
    assert reason in problem(train, tmp_path / "labels" / "train" / "a.txt", named)
    assert pass_over(train) == [0]
    assert pass_over(test) == [0]
    assert len(train.truth(0)["boxes"]) == (2 if what == "sticks out" else 1)


def test_a_label_file_that_is_no_text(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": FINE, "b": ""})
    file = tmp_path / "labels" / "train" / "b.txt"
    file.write_bytes(b"\xff\xfe\x00")
    train, _ = opened(tmp_path)
    assert "broken" in problem(train, file, "")
    assert pass_over(train) == [0, 1]


def test_a_missing_label_file_is_reported_and_the_image_is_background(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": FINE, "b": None})
    train, _ = opened(tmp_path)
    assert pass_over(train) == [0, 1]
    assert problem(train, tmp_path / "labels" / "train" / "b.txt", "")


def test_the_data_yaml_itself_and_names_as_a_mapping(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": FINE})
    (tmp_path / "list.txt").write_text("./images/train/a.jpg\n\nimages/train/gone.jpg\n")
    file = tmp_path / "data.yaml"
    file.write_text("path: .\ntrain: [list.txt]\nval: images/val\nnames: {1: dog, 0: cat}\n")
    train, test = opened(file)
    assert train.classes == ("cat", "dog")
    assert [(Path(one.path).name, one.reason) for one in train.broken] == [("gone.jpg", "there is no such file")]
    assert (len(train), len(test)) == (1, 1)


def test_a_folder_without_yaml(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": FINE})
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(WhatwhereError, match=r"no data\.yaml and no classes\.txt"):
        opened(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert opened(tmp_path).train.classes == ("cat", "dog")


def test_folders_of_parts_with_a_yaml_that_points_above_itself(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        write_image(tmp_path / part / "images" / "a.jpg")
        (tmp_path / part / "labels").mkdir()
        (tmp_path / part / "labels" / "a.txt").write_text(FINE)
    (tmp_path / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cat']\n")
    train, test = opened(tmp_path)
    assert len(train.truth(0)["boxes"]) == len(test.truth(0)["boxes"]) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: [a", "cannot be read as YAML"),
        ("- train\n- val\n", "must name the classes"),
        ("", "must name the classes"),
        ("train: images/train\nval: images/val\n", "must name the classes"),
        ("names: []\ntrain: images/train\nval: images/val\n", "must name the classes"),
        ("names: {0: cat, 2: dog}\ntrain: images/train\nval: images/val\n", "must name the classes"),
        ("names: [cat]\ntrain: images/train\n", "must name the images"),
        ("names: [cat]\ntrain: images/elsewhere\nval: images/val\n", "'images/elsewhere', which is not there"),
    ],
)
def test_a_yaml_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    write_yolo(tmp_path, {"a": FINE})
    (tmp_path / "data.yaml").write_text(content)
    with pytest.raises(WhatwhereError, match=message):
        opened(tmp_path)


def test_names_with_keys_of_several_kinds(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": FINE})
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: cat, dog: 1}\n")
    with pytest.raises(WhatwhereError, match="must name the classes"):
        opened(tmp_path)


def test_classes_of_one_name_are_reported(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": FINE + "1 0.5 0.5 0.2 0.2\n"})
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, cat]\n")
    try:
        train, _ = opened(tmp_path)
    except WhatwhereError:
        return
    assert train.problems


def test_a_list_of_images_that_is_no_text(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": FINE})
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "data.yaml").write_text("train: list.txt\nval: images/val\nnames: [cat, dog]\n")
    with pytest.raises(WhatwhereError, match=r"list\.txt"):
        opened(tmp_path)


def test_classes_that_are_no_text(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": FINE})
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(WhatwhereError, match=r"classes\.txt"):
        opened(tmp_path)
