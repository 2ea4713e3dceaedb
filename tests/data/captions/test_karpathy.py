import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from whatwhere.data.captions.karpathy import is_karpathy, read_karpathy
from whatwhere.errors import WhatwhereError


def entry(name: Any, split: Any = "train", *raw: Any, **more: Any) -> dict[str, Any]:
    sentences = [{"raw": one, "tokens": str(one).split()} for one in raw]
    return {"filename": name, "split": split, "sentences": sentences, **more}


V = entry("v.jpg", "val", "A cat sleeps.")


def write(root: Path, images: Any, name: str = "dataset_flickr8k.json", place: str = "images") -> Path:
    """Write a file, and a.jpg, b.jpg and v.jpg."""
    for image in ("a.jpg", "b.jpg", "v.jpg"):
        (root / place).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(root / place / image)
    content = images if isinstance(images, str) else json.dumps({"images": images, "dataset": "flickr8k"})
    (root / name).write_text(content, encoding="utf-8")
    return root / name


def test_sentences_keep_the_order_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, [entry("b.jpg", "train", "Two.", " Two,  more "), V, entry("a.jpg", "train", "Zwölf 🐕.")])
    for path in (file, tmp_path):
        assert is_karpathy(path)
        train, test, problems = read_karpathy(path)
        assert problems == []
        assert [(one.path, one.captions, one.source) for one in train] == [
            (tmp_path / "images" / "b.jpg", ("Two.", " Two,  more "), file),
            (tmp_path / "images" / "a.jpg", ("Zwölf 🐕.",), file),
        ]
        assert [(one.path.name, one.captions) for one in test] == [("v.jpg", ("A cat sleeps.",))]


@pytest.mark.parametrize("restval", [False, True])
@pytest.mark.parametrize("test", ["val", "test"])
def test_splits(tmp_path: Path, restval: bool, test: Any) -> None:
    splits = ("train", "restval", "val", "test")
    for split in splits:
        Image.new("RGB", (8, 6)).save(tmp_path / f"{split}.jpg")
    write(tmp_path, [entry(f"{split}.jpg", split, "A dog.") for split in splits])
    parts = read_karpathy(tmp_path, restval=restval, test=test)
    assert [one.path.stem for one in parts.train] == ["train", "restval"][: 1 + restval]
    assert [one.path.stem for one in parts.test] == [test]
    assert parts.problems == []


def test_another_split_for_tests_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [entry("a.jpg"), V])
    with pytest.raises(WhatwhereError, match="test must be 'val' or 'test', got 'dev'"):
        read_karpathy(tmp_path, test="dev")  # type: ignore[arg-type]


ODD = {
    "no mapping": ("b.jpg", "image 2", "not a mapping"),
    "no split": ({"filename": "b.jpg", "sentences": []}, "image 2", "no split, left out"),
    "an unknown split": (entry("b.jpg", "dev"), "image 2", "the split is 'dev' and not train, restval, val or test"),
    "a list as a split": (entry("b.jpg", ["train"]), "image 2", "the split is ['train'] and not"),
    "no filename": ({"split": "train", "sentences": []}, "image 2", "no filename, left out"),
    "a number as a filename": (entry(3), "image 2", "no filename, left out"),
    "a number as a filepath": (entry("b.jpg", filepath=3), "image 2", "the filepath 3 is no folder"),
    "an empty filename": (entry(""), "image 2", "cannot be the name"),
    "half a character": (entry("\ud800.jpg"), "image 2", "cannot be the name"),
    "out of the folder": (entry("../../etc/x.jpg"), "image 2", "leads out of"),
    "out by the filepath": (entry("x.jpg", filepath="../../etc"), "image 2", "'../../etc/x.jpg' leads out of"),
    "absolute": (entry("passwd", filepath="/etc"), "image 2", "'/etc/passwd' leads out of"),
    "twice": (entry("a.jpg"), "image a.jpg", "listed twice"),
    "also for tests": (entry("v.jpg", "train", "A cat."), "image v.jpg", "it is in the test part too"),
}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_image_is_a_problem(tmp_path: Path, what: str) -> None:
    odd, named, reason = ODD[what]
    file = write(tmp_path, [entry("a.jpg", "train", "A dog."), odd, V])
    train, test, problems = read_karpathy(tmp_path)
    assert [(one.path, one.object) for one in problems] == [(str(file), named)]
    assert reason in problems[0].reason
    assert [[(one.path.name, one.captions) for one in part] for part in (train, test)] == [
        [("a.jpg", ("A dog.",))],
        [("v.jpg", ("A cat sleeps.",))],
    ]


ODD_SENTENCES = {
    "a number": ({"raw": 5}, "5 is not a sentence, left out"),
    "a list": ({"raw": ["A", "dog"]}, "['A', 'dog'] is not a sentence, left out"),
    "empty": ({"raw": "  "}, "the sentence is empty, left out"),
    "half a character": ({"raw": "\ud800"}, "not Unicode"),
    "null": ({"raw": None}, "no raw text, left out"),
    "only tokens": ({"tokens": ["a", "dog"]}, "no raw text, left out"),
    "no mapping": ("A dog.", "no raw text, left out"),
}


@pytest.mark.parametrize("what", ODD_SENTENCES)
def test_an_odd_sentence_is_a_problem(tmp_path: Path, what: str) -> None:
    odd, reason = ODD_SENTENCES[what]
    write(tmp_path, [entry("a.jpg", sentences=[{"raw": "First."}, odd, {"raw": "Last."}]), V])
    train, _, problems = read_karpathy(tmp_path)
    assert train[0].captions == ("First.", "Last.")
    assert [one.object for one in problems] == ["image a.jpg, sentence 2"]
    assert reason in problems[0].reason


@pytest.mark.parametrize(
    ("sentences", "reasons"), [([], []), (None, []), ("A dog.", ["its sentences are not a list, left out"])]
)
def test_images_without_sentences_stay(tmp_path: Path, sentences: Any, reasons: list[str]) -> None:
    write(tmp_path, [entry("a.jpg", sentences=sentences), {"filename": "b.jpg", "split": "train"}, V])
    train, _, problems = read_karpathy(tmp_path)
    assert [(one.path.name, one.captions) for one in train] == [("a.jpg", ()), ("b.jpg", ())]
    assert [one.reason for one in problems] == reasons


def test_sentences_of_an_image_that_is_listed_twice_are_put_together(tmp_path: Path) -> None:
    write(tmp_path, [entry("a.jpg", "train", "One."), entry("b.jpg"), entry("a.jpg", "train", "Two."), V])
    assert [one.captions for one in read_karpathy(tmp_path).train] == [("One.", "Two."), ()]


def test_an_odd_image_of_a_split_that_is_not_used_is_no_problem(tmp_path: Path) -> None:
    write(tmp_path, [entry("a.jpg"), entry(3, "test"), entry("/etc/passwd", "restval"), V])
    assert read_karpathy(tmp_path).problems == []


def test_missing_files_stay(tmp_path: Path) -> None:
    write(tmp_path, [entry("a.jpg"), entry("gone.jpg", "train", "A dog.", filepath="train2014"), V])
    train, _, problems = read_karpathy(tmp_path)
    assert (train[1].path, train[1].captions) == (tmp_path / "train2014" / "gone.jpg", ("A dog.",))
    assert problems == []


@pytest.mark.parametrize(
    ("place", "filepath"),
    [
        ("val2014", "val2014"),
        ("images/val2014", "val2014"),
        ("images", "val2014"),
        (".", "val2014"),
        *((place, None) for place in (".", "images", "Images", "Flicker8k_Dataset", "flickr30k-images")),
    ],
)
def test_places_of_images(tmp_path: Path, place: str, filepath: str | None) -> None:
    write(tmp_path, [entry("a.jpg", filepath=filepath), {**V, "filepath": filepath}], place=place)
    train, test, problems = read_karpathy(tmp_path)
    assert [one.path for one in train + test] == [tmp_path / place / name for name in ("a.jpg", "v.jpg")]
    assert problems == []


def test_a_part_without_any_of_its_images_says_where_it_looked(tmp_path: Path) -> None:
    file = write(tmp_path, [entry("gone.jpg", filepath="train2014"), V])
    with pytest.raises(WhatwhereError) as raised:
        read_karpathy(tmp_path)
    said = str(raised.value)
    start = f"{file}: none of its 1 images is there, looked for 'train2014/gone.jpg' and 'gone.jpg' in {tmp_path}, "
    assert said.startswith(start)
    assert f"{tmp_path / 'Flicker8k_Dataset'}, " in said
    assert said.endswith(": put the images into one of these folders")


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (
            [entry("a.jpg"), entry("b.jpg", "test")],
            r"no image of the split 'val'; .* train \(1\), test \(1\).* or choose",
        ),
        ([entry("a.jpg")], r"no image of the split 'val'; .* it has train \(1\): give .* a split and sentences$"),
        ([entry("a.jpg", "restval"), V], r"no image of the split 'train'; .* it has restval \(1\), val \(1\): give"),
        (
            [{"id": 1, "file_name": "a.jpg"}],
            "no image of the split 'train'; .* it has none: give every image a filename",
        ),
        ([], "no image of the split 'train'; .* it has none"),
    ],
)
def test_a_split_without_images_is_refused(tmp_path: Path, images: Any, match: str) -> None:
    file = write(tmp_path, images)
    with pytest.raises(WhatwhereError, match=match) as raised:
        read_karpathy(tmp_path)
    assert str(file) in str(raised.value)


def test_several_files_in_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    file = write(tmp_path, [entry("a.jpg"), V])
    write(tmp_path, "not read", name="dataset_coco.json")
    assert is_karpathy(tmp_path)
    with pytest.raises(WhatwhereError, match=r"it has dataset_coco.json, dataset_flickr8k.json: give the path of the"):
        read_karpathy(tmp_path)
    assert len(read_karpathy(file).train) == 1


def test_what_is_none_of_these_files(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").touch()
    (tmp_path / "dataset_folder.json").mkdir()
    for path in (tmp_path, tmp_path / "captions.csv", tmp_path / "dataset_folder.json", tmp_path / "gone.json"):
        assert not is_karpathy(path)
    with pytest.raises(WhatwhereError, match=r"must hold exactly one dataset_\*.json, it has none"):
        read_karpathy(tmp_path)
    with pytest.raises(WhatwhereError, match=r"gone.json cannot be read: No such file"):
        read_karpathy(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "is not JSON"),
        ('{"images": [', "is not JSON .*fetch it again"),
        ("[]", "is not one of Karpathy's files: it needs the list images, it has no keys"),
        ('{"annotations": []}', "it needs the list images, it has the keys 'annotations'"),
        ('{"images": {}}', "it needs the list images"),
    ],
)
def test_a_file_that_is_not_of_karpathy(tmp_path: Path, content: str, match: str) -> None:
    file = write(tmp_path, content)
    with pytest.raises(WhatwhereError, match=match) as raised:
        read_karpathy(file)
    assert str(file) in str(raised.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["train", "a.jpg"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("raw"), inner, max_size=1),
    max_leaves=4,
)
ENTRIES = VALUES | st.fixed_dictionaries(
    {}, optional={"filename": VALUES, "filepath": VALUES, "split": VALUES, "sentences": VALUES}
)


@given(st.lists(ENTRIES, max_size=5))
def test_whatever_the_entries_are_nothing_raises(images: list[Any]) -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        write(root, [entry("b.jpg", "train", "A dog."), V, *images])
        train, test, problems = read_karpathy(root)
        assert train[0].captions[:1] == ("A dog.",)
        assert len(test) == 1
        assert len({one.path for one in train}) == len(train) <= 1 + len(images)
        "\n".join(map(str, problems)).encode()  # a warning can show them
