from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatwhere.data.captions.listing import ImageFinder, make_parts, read_json, require_images, sentence_problem
from whatwhere.errors import WhatwhereError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_an_absolute_name_may_be_that_of_the_folder_behind_a_link(tmp_path: Path) -> None:
    image = touch(tmp_path / "coco" / "deep" / "a.jpg").resolve()
    (tmp_path / "link").symlink_to(tmp_path / "coco")
    for root in ("coco", "link"):
        assert ImageFinder(tmp_path / root, [""]).find(str(image)) == tmp_path / root / "deep" / "a.jpg"
    linked = tmp_path / "link" / "deep" / "a.jpg"
    assert ImageFinder(tmp_path / "link", [""]).find(str(linked)) == linked


def test_an_absolute_name_in_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "coco" / "deep" / "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "coco")
    monkeypatch.chdir(tmp_path)
    for root in ("coco", "link"):
        name = str(tmp_path / root / "deep" / "a.jpg")
        assert ImageFinder(Path(root), [""]).find(name) == Path(root, "deep", "a.jpg")


@given(st.none() | st.integers() | st.lists(st.text()) | st.text(st.characters()))
def test_a_sentence_can_be_written(value: Any) -> None:
    if not sentence_problem(value):
        assert value.encode().strip()


PIECES = st.lists(st.sampled_from(["..", ".", "", "/", "inside", "secret.jpg", "a.jpg", "\\", "C:"]), max_size=6)


@given(PIECES, st.sampled_from(["", "/", "inside/", "../"]))
def test_no_name_leads_out_of_the_folder(pieces: list[str], start: str) -> None:
    with TemporaryDirectory() as name:
        root = Path(name).resolve() / "data"
        (root / "inside").mkdir(parents=True)
        (root.parent / "secret.jpg").touch()
        found = ImageFinder(root, ["inside", "images", ""]).find(start + "/".join(pieces))
        assert isinstance(found, str) or found.resolve().is_relative_to(root)


def test_a_file_that_json_cannot_be_read_from(tmp_path: Path) -> None:
    for content, what in ((b"[", "is not JSON"), (b"\xff", "is not JSON"), (b"[" * 100_000, "is not JSON")):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(WhatwhereError, match=rf"a.json {what} .*fetch it again"):
            read_json(tmp_path / "a.json")
    with pytest.raises(WhatwhereError, match=r"gone.json cannot be read: No such file"):
        read_json(tmp_path / "gone.json")


def test_one_image_that_is_there_is_enough(tmp_path: Path) -> None:
    finder = ImageFinder(tmp_path, ["images", ""])
    require_images(Path("a.json"), {}, finder)
    there, gone = touch(tmp_path / "a.jpg"), finder.find("b.jpg")
    assert isinstance(gone, Path)
    require_images(Path("a.json"), {gone: [], there: []}, finder)
    with pytest.raises(WhatwhereError, match=r"none of its 1 images is there, looked for 'b.jpg' in .*images, "):
        require_images(Path("a.json"), {gone: []}, finder)


def test_parts_keep_their_order_and_share_no_image() -> None:
    train, test = {Path(f"{name}.jpg"): [name] for name in "cab"}, {Path("a.jpg"): ["test"]}
    parts = make_parts(Path("train.json"), train, Path("test.json"), test, [])
    assert [(one.path.stem, one.captions, one.source.name) for one in parts.train + parts.test] == [
        ("c", ("c",), "train.json"),
        ("b", ("b",), "train.json"),
        ("a", ("test",), "test.json"),
    ]
    assert [str(one) for one in parts.problems] == [
        "train.json, image a.jpg: it is in the test part too, left out of training"
    ]
