import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from whatwhere.data.captions.coco import is_coco_captions, read_coco_captions
from whatwhere.errors import WhatwhereError

A, B = {"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}
SURROGATE = "\ud800"
"""Half of a character, which JSON may have and no file name."""


def write_image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(path, format="JPEG")
    return path


def note(image: Any = 1, caption: Any = "A dog runs.", **more: Any) -> dict[str, Any]:
    return {"image_id": image, "caption": caption, **more}


def write_file(root: Path, content: Any, part: str = "train2017") -> Path:
    file = root / "annotations" / f"captions_{part}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def write_both(root: Path, images: Any, annotations: Any = ()) -> Path:
    """Write the files of both parts, with images a.jpg and b.jpg for training; return that of the training part."""
    for path in ("train2017/a.jpg", "train2017/b.jpg", "val2017/v.jpg"):
        write_image(root / path)
    test = {"images": [{"id": 1, "file_name": "v.jpg"}], "annotations": [note(caption="A cat sleeps.")]}
    write_file(root, test, "val2017")
    return write_file(root, {"images": images, "annotations": list(annotations)})


def one_problem(root: Path, what: str) -> str:
    """Return the reason of the one problem with this object; there must be no other."""
    problems = read_coco_captions(root).problems
    assert [(one.path, one.object) for one in problems] == [
        (str(root / "annotations" / "captions_train2017.json"), what)
    ]
    return problems[0].reason


def test_captions_keep_the_order_of_the_file(tmp_path: Path) -> None:
    notes = [note(2, "Two."), note(1, " One,  as it stands "), note(2, "Two more."), note(1, "Zwölf Hündchen 🐕.")]
    file = write_both(tmp_path, [B, A], notes)
    train, test, problems = read_coco_captions(tmp_path)
    assert problems == []
    assert [(one.path, one.captions, one.source) for one in train] == [
        (tmp_path / "train2017" / "b.jpg", ("Two.", "Two more."), file),
        (tmp_path / "train2017" / "a.jpg", (" One,  as it stands ", "Zwölf Hündchen 🐕."), file),
    ]
    assert [(one.path.name, one.captions) for one in test] == [("v.jpg", ("A cat sleeps.",))]
    assert is_coco_captions(tmp_path)


ODD = {
    "unknown image": (note(99), "caption 2", "has the id 99"),
    "the id of the annotation": (note(99, id=7), "caption 7", "has the id 99"),
    "an id of another kind": (note("1"), "caption 2", "has the id '1'"),
    "a list as an id": (note([1]), "caption 2", r"has the id [1]"),
    "a bool as an id": (note(True), "caption 2", "has the id True"),
    "no image_id": ({"caption": "A dog."}, "caption 2", "has the id None"),
    "no caption": ({"image_id": 1}, "caption 2", "no caption, left out"),
    "null": (note(caption=None), "caption 2", "None is not a sentence"),
    "a number": (note(caption=5), "caption 2", "5 is not a sentence"),
    "a list": (note(caption=["A dog."]), "caption 2", "['A dog.'] is not a sentence"),
    "empty": (note(caption=" \n"), "caption 2", "empty"),
    "half a character": (note(caption=f"A {SURROGATE} dog."), "caption 2", "not Unicode"),
    "no mapping": (["A dog."], "caption 2", "not a mapping, left out"),
}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_annotation_is_a_problem(tmp_path: Path, what: str) -> None:
    odd, named, reason = ODD[what]
    write_both(tmp_path, [A], [note(), odd, note(caption="The last.")])
    assert reason in one_problem(tmp_path, named)
    assert [one.captions for one in read_coco_captions(tmp_path).train] == [("A dog runs.", "The last.")]


ODD_IMAGES = {
    "no file_name": ({"id": 5}, "image 2", "no id or no file_name"),
    "no id": ({"file_name": "b.jpg"}, "image 2", "no id or no file_name"),
    "a bool as an id": ({"id": True, "file_name": "b.jpg"}, "image 2", "no id or no file_name"),
    "a list as an id": ({"id": [1], "file_name": "b.jpg"}, "image 2", "no id or no file_name"),
    "a number as a name": ({"id": 5, "file_name": 3}, "image 2", "no id or no file_name"),
    "no mapping": ("b.jpg", "image 2", "no id or no file_name"),
    "twice": (A, "image 2", "the id 1 is listed already"),
    "twice with another id": ({**A, "id": 5}, "image a.jpg", "the ids 1 and 5 are this image"),
    "an empty name": ({"id": 5, "file_name": ""}, "image with the id 5", "cannot be the name"),
    "a folder as a name": ({"id": 5, "file_name": "train2017/.."}, "image with the id 5", "cannot be the name"),
    "a null character": ({"id": 5, "file_name": "b\0.jpg"}, "image with the id 5", "cannot be the name"),
    "half a character": ({"id": 5, "file_name": f"{SURROGATE}.jpg"}, "image with the id 5", "cannot be the name"),
    "out of the folder": ({"id": 5, "file_name": "../../etc/x.jpg"}, "image with the id 5", "leads out of"),
    "out as Windows does": ({"id": 5, "file_name": r"..\..\etc\x.jpg"}, "image with the id 5", "leads out of"),
    "absolute": ({"id": 5, "file_name": "/etc/passwd"}, "image with the id 5", "'/etc/passwd' leads out of"),
}


@pytest.mark.parametrize("what", ODD_IMAGES)
def test_an_odd_image_is_a_problem(tmp_path: Path, what: str) -> None:
    odd, named, reason = ODD_IMAGES[what]
    write_both(tmp_path, [A, odd], [note()])
    assert reason in one_problem(tmp_path, named)
    assert [(one.path.name, one.captions) for one in read_coco_captions(tmp_path).train] == [
        ("a.jpg", ("A dog runs.",))
    ]


def test_captions_of_a_file_with_two_ids_are_put_together(tmp_path: Path) -> None:
    write_both(tmp_path, [A, {**A, "id": 5}, B], [note(5, "Five."), note(1, "One."), note(2, "Two.")])
    assert [one.captions for one in read_coco_captions(tmp_path).train] == [("Five.", "One."), ("Two.",)]


def test_two_files_with_one_id_are_both_left_out(tmp_path: Path) -> None:
    images = [A, {**B, "id": 1}, {"id": 3, "file_name": "c.jpg"}]
    write_image(tmp_path / "train2017" / "c.jpg")
    write_both(tmp_path, images, [note(1, "Of which?"), note(3, "Three.")])
    train, _, problems = read_coco_captions(tmp_path)
    assert [(one.path.name, one.captions) for one in train] == [("c.jpg", ("Three.",))]
    assert [one.object for one in problems] == ["image 2", "caption 1"]
    assert "its id 1 is that of 'a.jpg' too" in problems[0].reason


def test_ids_may_be_words(tmp_path: Path) -> None:
    write_both(tmp_path, [{"id": "x", "file_name": "a.jpg"}], [note("x")])
    assert [one.captions for one in read_coco_captions(tmp_path).train] == [("A dog runs.",)]


def test_missing_files_and_images_without_captions_stay(tmp_path: Path) -> None:
    long = "x" * 300 + ".jpg"
    images = [A, B, {"id": 3, "file_name": "gone.jpg"}, {"id": 4, "file_name": long}]
    write_both(tmp_path, images, [note(1), note(3)])
    train, _, problems = read_coco_captions(tmp_path)
    assert problems == []
    assert [(one.path, len(one.captions)) for one in train] == [
        (tmp_path / "train2017" / name, count)
        for name, count in (("a.jpg", 1), ("b.jpg", 0), ("gone.jpg", 1), (long, 0))
    ]


@pytest.mark.parametrize(
    "name", ["../train2017/b.jpg", "{}/train2017/b.jpg", "/elsewhere/b.jpg", r"train2017\b.jpg", "photos/b.jpg"]
)
def test_names_that_lead_out_but_mean_a_file_inside(tmp_path: Path, name: str) -> None:
    write_both(tmp_path, [A, {"id": 2, "file_name": name.format(tmp_path)}], [note(1), note(2)])
    train, _, problems = read_coco_captions(tmp_path)
    assert problems == []
    assert train[1].path == tmp_path / "train2017" / "b.jpg"


def test_a_file_outside_is_not_reached(tmp_path: Path) -> None:
    outside = write_image(tmp_path / "secret.jpg")
    root = tmp_path / "coco"
    write_both(root, [A, {"id": 2, "file_name": "../secret.jpg"}, {"id": 3, "file_name": str(outside)}])
    train, _, problems = read_coco_captions(root)
    assert [one.path.name for one in train] == ["a.jpg"]
    assert ["leads out of" in one.reason for one in problems] == [True, True]


def test_folders_may_be_links(tmp_path: Path) -> None:
    root = tmp_path / "coco"
    file = write_both(root, [A, {"id": 2, "file_name": str(tmp_path.resolve() / "coco" / "train2017" / "b.jpg")}])
    (root / "train2017").rename(tmp_path / "disk")
    (root / "train2017").symlink_to(tmp_path / "disk")
    (tmp_path / "link").symlink_to(root)
    train, _, problems = read_coco_captions(tmp_path / "link")
    assert problems == []
    assert [one.path for one in train] == [tmp_path / "link" / "train2017" / name for name in ("a.jpg", "b.jpg")]
    assert train[0].source.samefile(file)


def test_an_image_in_both_parts_is_only_tested_on(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / "images" / name)
    write_file(tmp_path, {"images": [B], "annotations": []}, "val2017")
    write_file(tmp_path, {"images": [A, B], "annotations": [note(1), note(2)]})
    assert "test part" in one_problem(tmp_path, "image b.jpg")
    train, test, _ = read_coco_captions(tmp_path)
    assert [[one.path.name for one in part] for part in (train, test)] == [["a.jpg"], ["b.jpg"]]


@pytest.mark.parametrize("place", ["{}2014", "images/{}2014", "images/{}2014_small", "images", "annotations", "."])
def test_places_of_images(tmp_path: Path, place: str) -> None:
    for part in ("train", "val"):
        write_image(tmp_path / place.format(part) / f"{part}.jpg")
        content = {"images": [{"id": 1, "file_name": f"{part}.jpg"}], "annotations": [note()]}
        write_file(tmp_path, content, f"{part}2014_small")
    train, test, _ = read_coco_captions(tmp_path)
    assert (train[0].path, test[0].path) == tuple(
        tmp_path / place.format(part) / f"{part}.jpg" for part in ("train", "val")
    )


def test_a_part_without_any_of_its_images_says_where_it_looked(tmp_path: Path) -> None:
    file = write_both(tmp_path, [{"id": 1, "file_name": "photos/gone.jpg"}], [note()])
    with pytest.raises(WhatwhereError) as raised:
        read_coco_captions(tmp_path)
    where = ", ".join(str(tmp_path / name) for name in ("train2017", "images/train2017", "images", "annotations", ""))
    assert str(raised.value) == (
        f"{file}: none of its 1 images is there, looked for 'photos/gone.jpg' and 'gone.jpg' in {where}: put the "
        "images into one of these folders"
    )


def test_the_newest_year_that_both_parts_have(tmp_path: Path) -> None:
    write_both(tmp_path, [A], [note()])
    for other in ("train2014", "val2014", "train2018"):
        write_file(tmp_path, "not read", other)
    train, test, _ = read_coco_captions(tmp_path)
    assert [part[0].source.stem for part in (train, test)] == ["captions_train2017", "captions_val2017"]


def test_a_part_of_a_file_has_the_year_of_the_file(tmp_path: Path) -> None:
    write_both(tmp_path, [A], [note()]).rename(tmp_path / "annotations" / "captions_train2017_small.json")
    train, _, problems = read_coco_captions(tmp_path)
    assert (train[0].path, problems) == (tmp_path / "train2017" / "a.jpg", [])


def test_files_of_different_years_are_refused(tmp_path: Path) -> None:
    write_both(tmp_path, [A], [note()]).rename(tmp_path / "annotations" / "captions_train2014.json")
    assert is_coco_captions(tmp_path)
    with pytest.raises(WhatwhereError, match=r"captions_train2014.json, captions_val2017.json: the years divide"):
        read_coco_captions(tmp_path)


@pytest.mark.parametrize(("parts", "has"), [((), "neither"), (("train2017",), "captions_train2017.json")])
def test_folders_without_both_files_are_refused(tmp_path: Path, parts: tuple[str, ...], has: str) -> None:
    for part in parts:
        write_file(tmp_path, {}, part)
    assert not is_coco_captions(tmp_path)
    with pytest.raises(WhatwhereError, match=rf"needs annotations/captions_train\*.json and .* it has {has}: fetch"):
        read_coco_captions(tmp_path)


UNUSABLE = {
    "empty": ("", "is not JSON"),
    "cut off": ('{"images": [', "is not JSON .*fetch it again"),
    "too deep": ("[" * 100_000, "is not JSON"),
    "a list": ("[]", "needs the lists images and annotations, it has no keys"),
    "no annotations": ('{"images": []}', "needs the lists images and annotations, it has the keys 'images'"),
    "a mapping of images": ('{"images": {}, "annotations": []}', "needs the lists"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_file_that_is_not_of_coco(tmp_path: Path, what: str) -> None:
    write_both(tmp_path, [A], [note()])
    file = write_file(tmp_path, UNUSABLE[what][0])
    with pytest.raises(WhatwhereError, match=UNUSABLE[what][1]) as raised:
        read_coco_captions(tmp_path)
    assert str(file) in str(raised.value)


def test_files_that_are_not_text_and_files_with_a_mark(tmp_path: Path) -> None:
    file = write_both(tmp_path, [A], [note()])
    text = file.read_bytes()
    file.write_bytes(b"\xff\xfe{")
    with pytest.raises(WhatwhereError, match="is not JSON"):
        read_coco_captions(tmp_path)
    file.write_bytes(b"\xef\xbb\xbf" + text)
    assert len(read_coco_captions(tmp_path).train) == 1
    file.unlink()
    file.mkdir()
    with pytest.raises(WhatwhereError, match="cannot be read"):
        read_coco_captions(tmp_path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=4) | st.just("a.jpg"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
ENTRIES = VALUES | st.fixed_dictionaries(
    {}, optional={"id": VALUES, "file_name": VALUES, "image_id": VALUES, "caption": VALUES}
)


@settings(max_examples=50)
@given(st.lists(ENTRIES, max_size=5), st.lists(ENTRIES, max_size=5))
def test_whatever_the_entries_are_nothing_raises(images: list[Any], annotations: list[Any]) -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        first = {"id": "first", "file_name": "b.jpg"}
        write_both(root, [first, *images], [note("first"), *annotations])
        train, _, problems = read_coco_captions(root)
        assert train[0].captions[:1] == ("A dog runs.",)
        assert len({one.path for one in train}) == len(train) <= 1 + len(images)
        kept = sum(len(one.captions) for one in train)
        assert kept + sum(one.object.startswith("caption") for one in problems) == 1 + len(annotations)
        "\n".join(map(str, problems)).encode()  # a warning can show them
