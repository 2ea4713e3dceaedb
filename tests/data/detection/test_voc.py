from pathlib import Path

import pytest
import torch
from PIL import Image

from .conftest import GOOD, MODES, opened, pass_over, problem, voc_object, write_image, write_lists, write_voc

both = pytest.mark.parametrize("memory_gb", MODES.values(), ids=MODES)


def small(root: Path, objects: str, size: str | None = None) -> Path:
    """Write a data set whose second training image, odd, has these objects; return the file of odd."""
    write_voc(root, "fine", [GOOD])
    file = write_voc(root, "odd", objects, size)
    write_voc(root, "held", [GOOD])
    write_lists(root, train=["fine", "odd"], val=["held"])
    return file


def test_boxes_counted_from_1_become_boxes_counted_from_0(tmp_path: Path) -> None:
    small(tmp_path, voc_object("dog", (1, 1, 60, 40), "<difficult>1</difficult>") + voc_object("cat", (11, 5, 20, 14)))
    train, test = opened(tmp_path)
    assert (train.classes, train.category_ids, train.size, train.flip) == (("cat", "dog"), (1, 2), 320, True)
    assert train.image_ids == [1, 2]
    truth = train.truth(1)
    assert truth["boxes"].tolist() == [[0, 0, 60, 40], [10, 4, 20, 14]]
    assert truth["labels"].tolist() == [1, 0]
    assert truth["difficult"].tolist() == [True, False]
    assert truth["crowd"].tolist() == [False, False]
    assert truth["areas"].tolist() == [2400, 100]
    assert truth["size"] == (40, 60)
    assert [one.object for one in train.problems] == ["class dog"]
    assert not test.problems


ODD = {
    "outside": (voc_object("cat", (100, 5, 120, 20)), "object 1 (cat)", "outside"),
    "sticks out": (voc_object("cat", (50, 5, 90, 20)), "object 1 (cat)", "cut off|clipped"),
    "inverted": (voc_object("cat", (30, 5, 10, 20)), "object 1 (cat)", "inverted"),
    "nan": (voc_object("cat", ("nan", 5, 10, 20)), "object 1 (cat)", "not finite|not a number"),  # type: ignore[arg-type]
    "infinite": (voc_object("cat", (5, 5, "inf", 20)), "object 1 (cat)", "not finite|not a number"),  # type: ignore[arg-type]
    "words": (voc_object("cat", ("left", 5, 10, 20)), "object 1 (cat)", "number"),  # type: ignore[arg-type]
    "missing coordinate": (
        "<object><name>cat</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>9</xmax></bndbox></object>",
        "object 1 (cat)",
        "ymax",
    ),
    "no box": ("<object><name>cat</name></object>", "object 1 (cat)", "xmin"),
    "no class": (
        voc_object("cat", (5, 5, 9, 9))
        + "<object><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>",
        "object 2",
        "no class",
    ),
}


@both
@pytest.mark.parametrize("what", ODD)
def test_odd_objects_are_reported_and_nothing_raises(tmp_path: Path, what: str, memory_gb: float) -> None:
    objects, named, reason = ODD[what]
    file = small(tmp_path, objects)
    train, test = opened(tmp_path, memory_gb=memory_gb)
    assert any(word in problem(train, file, named) for word in reason.split("|"))
    assert f"{file}, {named}: " in str(train.problems[0])
    assert pass_over(train) == [0, 1]
    assert pass_over(test) == [0]
    kept = {"sticks out": 1, "no class": 1}.get(what, 0)
    assert len(train.truth(1)["boxes"]) == kept


def test_a_box_with_equal_corners_is_empty(tmp_path: Path) -> None:
    file = small(tmp_path, voc_object("cat", (30, 20, 30, 20)))
    assert "empty" in problem(opened(tmp_path).train, file, "object 1 (cat)")


def test_a_box_inverted_by_one_pixel_is_called_inverted(tmp_path: Path) -> None:
    file = small(tmp_path, voc_object("cat", (30, 5, 29, 20)))
    assert "inverted" in problem(opened(tmp_path).train, file, "object 1 (cat)")


FILES = {
    "cut off": b"<annotation><filename>odd.jpg</filename><obj",
    "empty": b"",
    "no xml": b"hello",
    "entities": b'<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>',
    "utf-16 entities": '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><annotation/>'.encode("utf-16"),
}


@both
@pytest.mark.parametrize("what", FILES)
def test_a_broken_xml_file_leaves_out_its_image(tmp_path: Path, what: str, memory_gb: float) -> None:
    file = small(tmp_path, "")
    file.write_bytes(FILES[what])
    train, _ = opened(tmp_path, memory_gb=memory_gb)
    assert "broken" in problem(train, file, "")
    assert [Path(train.name(i)).stem for i in pass_over(train)] == ["fine"]


def test_an_unknown_encoding_leaves_out_its_image(tmp_path: Path) -> None:
    file = small(tmp_path, "")
    file.write_bytes(b'<?xml version="1.0" encoding="nonsense"?><annotation/>')
    assert "broken" in problem(opened(tmp_path).train, file, "")


def test_the_encoding_of_the_file_is_respected(tmp_path: Path) -> None:
    file = small(tmp_path, "")
    text = f'<?xml version="1.0" encoding="ISO-8859-1"?><annotation>{voc_object("bébé", (5, 5, 9, 9))}</annotation>'
    file.write_bytes(text.encode("latin-1"))
    assert opened(tmp_path).train.classes == ("bébé", "cat")


def test_a_file_that_is_no_annotation_is_reported(tmp_path: Path) -> None:
    file = small(tmp_path, "")
    file.write_text("<html/>")
    assert problem(opened(tmp_path).train, file, "")


def test_missing_annotation_and_missing_image(tmp_path: Path) -> None:
    file = small(tmp_path, voc_object("cat", (5, 5, 9, 9)))
    write_lists(tmp_path, train=["fine", "odd", "nowhere"])
    (tmp_path / "JPEGImages" / "odd.jpg").unlink()
    train, _ = opened(tmp_path)
    assert "no such annotation" in problem(train, file.with_name("nowhere.xml"), "")
    assert [(Path(one.path).name, one.reason) for one in train.broken] == [("odd.jpg", "there is no such file")]
    assert pass_over(train) == [0]


def test_another_size_than_the_file_is_reported_and_the_file_counts(tmp_path: Path) -> None:
    file = small(tmp_path, voc_object("cat", (5, 5, 9, 9)), "<size><width>99</width><height>40</height></size>")
    train, _ = opened(tmp_path)
    assert "99×40" in problem(train, file, "odd.jpg")
    assert train.truth(1)["size"] == (40, 60)


@pytest.mark.parametrize("size", ["", "<size/>", "<size><width>nan</width><height>inf</height></size>"])
def test_a_size_that_is_missing_or_no_number_is_not_compared(tmp_path: Path, size: str) -> None:
    small(tmp_path, voc_object("cat", (5, 5, 9, 9)), size)
    assert not opened(tmp_path).train.problems


def test_classes_of_one_part_only_are_reported_and_kept(tmp_path: Path) -> None:
    write_voc(tmp_path, "a", [GOOD, ("cow", (5, 5, 9, 9))])
    write_voc(tmp_path, "b", [GOOD, ("dog", (5, 5, 9, 9))])
    write_lists(tmp_path, train=["a"], val=["b"])
    train, test = opened(tmp_path)
    assert train.classes == test.classes == ("cat", "cow", "dog")
    assert "only the training part" in problem(train, tmp_path, "class cow")
    assert "only the test part" in problem(test, tmp_path, "class dog")


def stems(dataset: object) -> list[str]:
    return [Path(dataset.name(i)).stem for i in range(len(dataset))]  # type: ignore[attr-defined,arg-type]


def year(root: Path, prefix: str, **lists: list[str]) -> Path:
    for name in {one for stem in lists.values() for one in stem}:
        if not name.startswith("hidden"):
            write_voc(root, f"{prefix}{name}", [GOOD])
    write_lists(root, **{key: [f"{prefix}{name}" for name in names] for key, names in lists.items()})
    return root


def test_a_test_list_with_annotations_is_the_test_part(tmp_path: Path) -> None:
    train, test = opened(year(tmp_path, "", train=["a"], val=["b"], trainval=["a", "b"], test=["c"]))
    assert (stems(train), stems(test)) == (["a", "b"], ["c"])


def test_a_test_list_without_annotations_is_not_used(tmp_path: Path) -> None:
    year(tmp_path, "", train=["a"], val=["b"], trainval=["a", "b"])
    write_lists(tmp_path, test=["hidden"])
    train, test = opened(tmp_path)
    assert (stems(train), stems(test)) == (["a"], ["b"])


def years(root: Path) -> tuple[Path, Path]:
    first = year(root / "VOC2007", "7", train=["a"], val=["b"], trainval=["a", "b"], test=["c"])
    second = year(root / "VOC2012", "12", train=["a"], val=["b"], trainval=["a", "b"])
    write_lists(second, test=["hidden"])
    return first, second


def test_year_folders_are_one_data_set(tmp_path: Path) -> None:
    years(tmp_path)
    train, test = opened(tmp_path)
    assert (stems(train), stems(test)) == (["7a", "7b", "12a", "12b"], ["7c"])
    assert train.image_ids == [1, 2, 3, 4]


def test_years_given_one_by_one_are_the_same_data_set(tmp_path: Path) -> None:
    train, test = opened(*years(tmp_path))
    assert (stems(train), stems(test)) == (["7a", "7b", "12a", "12b"], ["7c"])


def test_a_year_that_only_has_tests(tmp_path: Path) -> None:
    first = year(tmp_path / "train07", "", trainval=["a", "b"])
    second = year(tmp_path / "test07", "", test=["c"])
    train, test = opened(first, second)
    assert (stems(train), stems(test)) == (["a", "b"], ["c"])


def test_an_image_in_both_parts_is_not_learned_from(tmp_path: Path) -> None:
    train, test = opened(year(tmp_path, "", train=["a", "b"], val=["b", "c"]))
    assert (stems(train), stems(test)) == (["a"], ["b", "c"])
    assert any("test" in one.reason for one in train.problems)


def test_without_lists_the_split_follows_from_the_seed(tmp_path: Path) -> None:
    for i in range(10):
        write_voc(tmp_path, f"{i}", [GOOD])
    parts = [tuple(map(tuple, map(stems, opened(tmp_path, data_seed=seed)))) for seed in (0, 0, 1, 2, 3)]
    assert parts[0] == parts[1]
    assert len(set(parts)) > 1
    for train, test in parts:
        assert (len(train), len(test)) == (8, 2)
        assert sorted(train + test) == [f"{i}" for i in range(10)]
        assert (list(train), list(test)) == (sorted(train), sorted(test))


def test_names_with_spaces(tmp_path: Path) -> None:
    train, test = opened(year(tmp_path, "", train=["my cat", "other"], val=["c"]))
    assert (stems(train), stems(test)) == (["my cat", "other"], ["c"])


def test_images_are_found_by_any_known_suffix(tmp_path: Path) -> None:
    small(tmp_path, voc_object("cat", (5, 5, 9, 9)))
    (tmp_path / "JPEGImages" / "odd.jpg").unlink()
    path = write_image(tmp_path / "JPEGImages" / "odd.png")
    assert opened(tmp_path).train.name(1) == str(path)


def test_the_name_of_the_xml_file_says_which_image_is_meant(tmp_path: Path) -> None:
    file = small(tmp_path, voc_object("cat", (5, 5, 9, 9)))
    file.write_text(file.read_text().replace("odd.jpg", "fine.jpg"))
    assert stems(opened(tmp_path).train) == ["fine", "odd"]


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("stated", ["stored", "shown", "none"])
def test_exif_boxes_are_for_the_image_as_shown_unless_the_size_says_otherwise(
    tmp_path: Path, orientation: int, stated: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = (40, 60) if orientation == 6 else (60, 40)
    width, height = {"stored": (60, 40), "shown": shown, "none": (0, 0)}[stated]
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    small(tmp_path, voc_object("cat", (1, 1, 31, 21)), size)
    write_image(tmp_path / "JPEGImages" / "odd.jpg", exif=exif)
    train, _ = opened(tmp_path, size=120)
    turned = orientation == 6 and stated != "stored"
    assert train.truth(1)["size"] == ((60, 40) if turned else (40, 60))
    batch = train.__getitems__([1])
    assert batch["images"][0].shape == ((3, 120, 80) if turned else (3, 80, 120))
    assert torch.allclose(batch["boxes"][0], torch.tensor([[0.0, 0.0, 62.0, 42.0]]))
    assert not train.problems
