import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whatwhere.data.captions.table import is_caption_table, read_caption_table
from whatwhere.errors import WhatwhereError

FIRST = "a.jpg,A dog runs.\nv.jpg,A cat sleeps.\n"


def write(root: Path, table: str | bytes, train: str = "a.jpg\n", test: str = "v.jpg\n", place: str = "images") -> Path:
    """Write a table with its listings, and a.jpg, b.jpg and v.jpg."""
    (root / place).mkdir(parents=True, exist_ok=True)
    for image in ("a.jpg", "b.jpg", "v.jpg"):
        (root / place / image).touch()
    (root / "captions.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    (root / "train.txt").write_text(train, encoding="utf-8")
    (root / "val.txt").write_text(test, encoding="utf-8")
    return root / "captions.csv"


def of_a(root: Path) -> tuple[str, ...]:
    """Return the sentences of a.jpg, where nothing is a problem."""
    train, _, problems = read_caption_table(root)
    assert problems == []
    assert [one.path.name for one in train] == ["a.jpg"]
    return train[0].captions


def test_sentences_keep_the_order_of_the_table_and_images_that_of_the_listings(tmp_path: Path) -> None:
    file = write(tmp_path, "a.jpg,One.\nv.jpg,A cat.\nb.jpg,Zwölf 🐕.\na.jpg,Two.\n", "b.jpg\na.jpg\n")
    train, test, problems = read_caption_table(tmp_path)
    assert problems == []
    assert [(one.path, one.captions, one.source) for one in train + test] == [
        (tmp_path / "images" / "b.jpg", ("Zwölf 🐕.",), file),
        (tmp_path / "images" / "a.jpg", ("One.", "Two."), file),
        (tmp_path / "images" / "v.jpg", ("A cat.",), file),
    ]


SENTENCES = {
    "plain": ("a.jpg,A dog runs.", "A dog runs."),
    "a comma in quotation marks": ('a.jpg,"A dog, a cat."', "A dog, a cat."),
    "a comma without": ("a.jpg,A dog, a cat,and a bird.", "A dog, a cat,and a bird."),
    "doubled quotation marks": ('a.jpg,"A ""big"" dog."', 'A "big" dog.'),
    "quotation marks inside": ('a.jpg,A "big" dog.', 'A "big" dog.'),
    "space around": (" a.jpg ,  A dog.  ", "A dog."),
    "a line break": ('a.jpg,"A dog\nruns."', "A dog\nruns."),
    "other line ends": ("a.jpg,A dog\u2028runs.", "A dog\u2028runs."),
    "the number of the sentence": ("a.jpg#3,A dog.", "A dog."),
    "of the folder": ("images/a.jpg,A dog.", "A dog."),
}


@pytest.mark.parametrize("what", SENTENCES)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_forms_of_sentences(tmp_path: Path, what: str, end: str) -> None:
    line, sentence = SENTENCES[what]
    write(tmp_path, (f"{line}\nv.jpg,A cat.").replace("\n", end).encode())
    assert of_a(tmp_path) == (sentence,)


@pytest.mark.parametrize("title", ["image,caption\n", ' Image ,"Caption"\n', "\ufeffimage,caption\n"])
def test_names_of_columns_a_mark_and_empty_lines(tmp_path: Path, title: str) -> None:
    write(tmp_path, f"{title}\n{FIRST}\n , \n", "\ufeffa.jpg\n\n", "\n  v.jpg  ")
    assert of_a(tmp_path) == ("A dog runs.",)


def test_an_image_may_be_called_image(tmp_path: Path) -> None:
    write(tmp_path, FIRST + "image,caption\n", "a.jpg\nimage\n")
    assert [one.captions for one in read_caption_table(tmp_path).train] == [("A dog runs.",), ("caption",)]


def test_a_number_sign_may_be_in_a_name(tmp_path: Path) -> None:
    write(tmp_path, FIRST + "dog #1.jpg#0,A dog.\ndog #1.jpg#1,Two.\n", "a.jpg\ndog #1.jpg\n")
    assert [one.captions for one in read_caption_table(tmp_path).train] == [("A dog runs.",), ("A dog.", "Two.")]


ODD = {
    "one column": ("only a sentence", "a line must be .*, it is 'only a sentence', left out"),
    "a tab": ("a.jpg\tA dog, a cat.", r"a line must be .*, it is 'a.jpg\\tA dog, a cat.', left out"),
    "no name": (",A dog.", "'' cannot be the name of an image, left out"),
    "only a number": ("#1,A dog.", "'' cannot be the name"),
    "a folder": ("images/..,A dog.", "cannot be the name"),
    "out of the folder": ("../../etc/passwd,A dog.", "'../../etc/passwd' leads out of"),
    "absolute": ("/etc/passwd,A dog.", "'/etc/passwd' leads out of"),
    "out as Windows does": (r"..\..\x.jpg,A dog.", "leads out of"),
    "a null character": ("a\0.jpg,A dog.", "cannot be the name"),
    "no sentence": ("a.jpg,  ", "the sentence is empty, left out"),
    "no sentence at all": ("a.jpg,", "the sentence is empty, left out"),
    "text after a quotation mark": ('a.jpg,"A" dog.', "it cannot be read .*: double the quotation marks"),
    "not closed": ('a.jpg,"A dog.', "it cannot be read .*: double the quotation marks"),
    "endless": (f"a.jpg,{'x' * 200_000}", "it cannot be read .*field larger"),
}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("last", ["a.jpg,The last.\n", 'a.jpg,"The last."\n'])
def test_an_odd_line_is_a_problem_and_no_other_is_lost(tmp_path: Path, what: str, last: str) -> None:
    odd, reason = ODD[what]
    file = write(tmp_path, f"{FIRST}{odd}\n{last}")
    train, test, problems = read_caption_table(tmp_path)
    assert [one.captions for one in train + test] == [("A dog runs.", "The last."), ("A cat sleeps.",)]
    assert [(one.path, one.object) for one in problems] == [(str(file), "line 3")]
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(problems[0].reason)


def test_problems_name_the_line_after_a_sentence_of_several_lines(tmp_path: Path) -> None:
    write(tmp_path, f'a.jpg,"A\nB\nC"\n{FIRST}odd\n')
    assert [one.object for one in read_caption_table(tmp_path).problems] == ["line 6"]


LISTED = {
    "twice": ("a.jpg\n\na.jpg\n", "train.txt", "line 3", "'a.jpg' is listed already, left out"),
    "twice in other words": ("a.jpg\nimages/a.jpg\n", "train.txt", "line 2", "'images/a.jpg' is listed already"),
    "in both parts": ("a.jpg\nv.jpg\n", "captions.csv", "image v.jpg", "in the test part too, left out of training"),
    "out of the folder": ("../../x.jpg\na.jpg\n", "train.txt", "line 1", "leads out of"),
}


@pytest.mark.parametrize("what", LISTED)
def test_an_odd_line_of_a_listing_is_a_problem(tmp_path: Path, what: str) -> None:
    listed, file, where, reason = LISTED[what]
    write(tmp_path, FIRST, listed)
    train, test, problems = read_caption_table(tmp_path)
    assert [one.path.name for one in train + test] == ["a.jpg", "v.jpg"]
    assert [(one.path, one.object) for one in problems] == [(str(tmp_path / file), where)]
    assert reason in problems[0].reason


def test_images_without_sentences_and_missing_images_stay(tmp_path: Path) -> None:
    write(tmp_path, FIRST + "gone.jpg,A bird.\n", "b.jpg\na.jpg\ngone.jpg\n")
    train, _, problems = read_caption_table(tmp_path)
    assert problems == []
    assert [(one.path.name, len(one.captions)) for one in train] == [("b.jpg", 0), ("a.jpg", 1), ("gone.jpg", 1)]


def test_an_empty_listing_is_an_empty_part(tmp_path: Path) -> None:
    write(tmp_path, FIRST, "\n")
    assert read_caption_table(tmp_path).train == []


@pytest.mark.parametrize("place", ["images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "."])
def test_places_of_images(tmp_path: Path, place: str) -> None:
    write(tmp_path, FIRST, place=place)
    assert [one.path for one in read_caption_table(tmp_path).train] == [tmp_path / place / "a.jpg"]


def test_images_may_be_in_several_folders(tmp_path: Path) -> None:
    write(tmp_path, FIRST)
    (tmp_path / "images" / "v.jpg").rename(tmp_path / "v.jpg")
    assert [one.path for one in read_caption_table(tmp_path).test] == [tmp_path / "v.jpg"]


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_part_without_any_of_its_images_says_where_it_looked(tmp_path: Path, part: str) -> None:
    write(tmp_path, FIRST)
    (tmp_path / "images" / ("a.jpg" if part == "train" else "v.jpg")).unlink()
    with pytest.raises(WhatwhereError, match=rf"{part}.txt: none of its 1 images is there, looked for .*images, .*put"):
        read_caption_table(tmp_path)


NAMES = [
    (("val.txt", "test.txt"), "val", "val.txt"),
    (("val.txt", "test.txt"), "test", "test.txt"),
    (("dev.txt", "test.txt"), "val", "dev.txt"),
    (("val.txt",), "test", "val.txt"),
    (("test.txt",), "val", "test.txt"),
    (("Flickr_8k.devImages.txt", "Flickr_8k.testImages.txt"), "val", "Flickr_8k.devImages.txt"),
    (("Flickr_8k.devImages.txt", "Flickr_8k.testImages.txt"), "test", "Flickr_8k.testImages.txt"),
]


@pytest.mark.parametrize(("there", "test", "expected"), NAMES)
def test_listings(tmp_path: Path, there: tuple[str, ...], test: str, expected: str) -> None:
    write(tmp_path, FIRST.replace("v.jpg", "b.jpg") + "v.jpg,A cat.\n")
    (tmp_path / "val.txt").unlink()
    for name in there:
        (tmp_path / name).write_text("v.jpg" if name == expected else "b.jpg")
    if "Flickr_8k.devImages.txt" in there:
        (tmp_path / "train.txt").rename(tmp_path / "Flickr_8k.trainImages.txt")
    parts = read_caption_table(tmp_path, test)
    assert [one.path.name for one in parts.train + parts.test] == ["a.jpg", "v.jpg"]


@pytest.mark.parametrize("missing", ["train.txt", "val.txt"])
def test_missing_listings(tmp_path: Path, missing: str) -> None:
    write(tmp_path, FIRST)
    (tmp_path / missing).unlink()
    there = "val.txt" if missing == "train.txt" else "train.txt"
    with pytest.raises(WhatwhereError, match=rf"train.txt, and val.txt or dev.txt or test.txt; there is {there}$"):
        read_caption_table(tmp_path)
    (tmp_path / there).unlink()
    with pytest.raises(WhatwhereError, match=r"there is no .txt file$"):
        read_caption_table(tmp_path)


def test_the_table_may_be_a_text_file(tmp_path: Path) -> None:
    file = write(tmp_path, FIRST).rename(tmp_path / "captions.txt")
    assert is_caption_table(tmp_path)
    assert read_caption_table(tmp_path).train[0].source == file
    (tmp_path / "train.txt").unlink()
    with pytest.raises(WhatwhereError, match=r"there is val.txt$"):
        read_caption_table(tmp_path)


def test_what_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").mkdir()
    assert not is_caption_table(tmp_path)
    with pytest.raises(WhatwhereError, match=r"has no captions.csv or captions.txt"):
        read_caption_table(tmp_path)
    with pytest.raises(WhatwhereError, match=r"test must be 'val' or 'test', got 'dev'"):
        read_caption_table(tmp_path, "dev")


UNUSABLE = {
    "empty": ("", r"has no sentence that can be used: .* such as a.jpg,A dog runs. \(it is empty\)"),
    "only a title": ("image,caption\n", r"\(it is empty\)"),
    "Flickr8k's own": ("a.jpg#0\tA dog , running .\na.jpg#1\tA dog .\n", r"\(line 1: .* it is 'a.jpg#0\\tA dog , "),
    "semicolons": ("a.jpg;A dog.\n", r"a comma and a sentence, .*it is 'a.jpg;A dog.'"),
    "other text": (b"\xff\xfe", "is not text in UTF-8 .*: convert it"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_table_without_any_sentence(tmp_path: Path, what: str) -> None:
    content, message = UNUSABLE[what]
    file = write(tmp_path, content)
    with pytest.raises(WhatwhereError, match=message) as raised:
        read_caption_table(tmp_path)
    assert str(file) in str(raised.value)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, FIRST)
    (tmp_path / "train.txt").write_bytes(b"\xff")
    with pytest.raises(WhatwhereError, match=r"train.txt is not text in UTF-8"):
        read_caption_table(tmp_path)
    plain = Path.read_text

    def refuse(path: Path, **options: str) -> str:
        if path == file:
            raise PermissionError(13, "Permission denied")
        return plain(path, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(WhatwhereError, match=r"captions.csv cannot be read: Permission denied"):
        read_caption_table(tmp_path)


@settings(max_examples=50)
@given(st.text(), st.text(), st.text())
def test_whatever_the_files_hold_nothing_else_raises(table: str, train: str, test: str) -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        files = [text.encode("utf-8", "ignore").decode() for text in (table, train, test)]
        write(root, f"\n{FIRST}{files[0]}\nb.jpg,The last.\n", f"a.jpg\nb.jpg\n{files[1]}", f"v.jpg\n{files[2]}")
        parts = read_caption_table(root)
        assert parts.train[1].captions[-1] == "The last."
        "\n".join(map(str, parts.problems)).encode()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=20), min_size=1))
def test_sentences_that_a_csv_writer_writes_come_back(sentences: list[str]) -> None:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([["v.jpg", "A cat."], *(["a.jpg", one] for one in sentences)])
    with TemporaryDirectory() as name:
        write(Path(name), stream.getvalue())
        expected = tuple(one.strip() for one in sentences if one.strip())
        assert read_caption_table(Path(name)).train[0].captions == expected
