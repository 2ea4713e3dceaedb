"""Captions in a table of two columns, with a file for each part that lists its images."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import WhatwhereError
from ..detection.objects import Problem
from .listing import Captions, ImageFinder, make_parts, require_images, sentence_problem
from .records import CaptionParts

TABLES = ("captions.csv", "captions.txt")
TRAIN = ("train.txt", "Flickr_8k.trainImages.txt")
PARTS = {"val": ("val.txt", "dev.txt", "Flickr_8k.devImages.txt"), "test": ("test.txt", "Flickr_8k.testImages.txt")}
PLACES = ("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "")
"""Folders that may hold the images, beside the table; the third is as the data set itself spells it."""
_FORM = "a line must be an image's file name, a comma and a sentence"


def is_caption_table(folder: Path) -> bool:
    """Whether a folder has ``captions.csv``, or ``captions.txt`` with the same content.

    Example:
        >>> is_caption_table(Path("there is none"))
        False
    """
    return _find(folder, TABLES) is not None


def read_caption_table(folder: Path, test: str = "val") -> CaptionParts:
    """Return the training and the test part of ``captions.csv``, a table of image and sentence.

    A line is an image's file name, a comma and a sentence; an image may have several lines. A sentence with commas may
    stand in quotation marks or not. A first line that names the columns, ``image,caption``, is left out. ``train.txt``
    and ``val.txt`` (or ``dev.txt``), or ``test.txt``, list the images of each part, one a line; Flickr8k's own names of
    these files are known too. The images are in the folder ``images``, in one of :data:`PLACES`, or beside the table.

    An image whose file is missing stays, and so does one without sentences. A file in both parts is only tested on.

    Args:
        folder: with these files.
        test: which part to measure on, ``"val"`` or ``"test"``; where there is only the other one, that.

    Raises:
        WhatwhereError: a file is missing, cannot be read, or has no line of this form, or a part none of whose images
            is there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     for image in ("a.jpg", "b.jpg"):
        ...         (folder / image).touch()
        ...     _ = (folder / "captions.csv").write_text('a.jpg,"A dog, a cat."\\nb.jpg,A dog.\\n')
        ...     _ = (folder / "train.txt").write_text("a.jpg\\n")
        ...     _ = (folder / "val.txt").write_text("b.jpg\\n")
        ...     parts = read_caption_table(folder)
        >>> parts.train[0].captions, parts.test[0].path.name
        (('A dog, a cat.',), 'b.jpg')
    """
    if test not in PARTS:
        raise WhatwhereError(f"test must be 'val' or 'test', got {test!r}")
    file = _find(folder, TABLES)
    if file is None:
        raise WhatwhereError(f"{folder} has no {' or '.join(TABLES)}")
    other = "test" if test == "val" else "val"
    train_list, test_list = _find(folder, TRAIN), _find(folder, PARTS[test]) or _find(folder, PARTS[other])
    if train_list is None or test_list is None:
        found = ", ".join(sorted(one.name for one in folder.glob("*.txt") if one != file)) or "no .txt file"
        raise WhatwhereError(
            f"{file} needs two files beside it that list the images to learn from and those to measure on, one a line: "
            f"{TRAIN[0]}, and {' or '.join((*PARTS[test][:-1], *PARTS[other][:-1]))}; there is {found}"
        )
    problems: list[Problem] = []
    sentences = _sentences(file, folder, problems)
    parts = []
    for listing in (train_list, test_list):
        finder = ImageFinder(folder, PLACES)
        parts.append(_part(listing, finder, sentences, problems))
        require_images(listing, parts[-1], finder)
    return make_parts(file, parts[0], file, parts[1], problems)


def _find(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _sentences(file: Path, folder: Path, problems: list[Problem]) -> Captions:
    """Return the sentences of the table by image."""
    finder = ImageFinder(folder, PLACES)
    paths: dict[str, Path | str] = {}
    found: Captions = {}
    wrong: list[Problem] = []
    for number, row in _rows(file):
        if isinstance(row, str):
            reason = f"{row}, left out"
        elif len(row) < 2 or "\t" in row[0]:
            reason = f"{_FORM}, it is {','.join(row)[:60]!r}, left out"
        else:
            name = re.sub(r"#\d+$", "", row[0].strip())  # Flickr8k numbers the sentences: a.jpg#0
            if name not in paths:
                paths[name] = finder.find(name)
            path, sentence = paths[name], ",".join(row[1:]).strip()
            reason = path if isinstance(path, str) else sentence_problem(sentence)
            if isinstance(path, Path) and not reason:
                found.setdefault(path, []).append(sentence)
        if reason:
            wrong.append(Problem(str(file), f"line {number}", reason))
    if not found:
        why = f"{wrong[0].object}: {wrong[0].reason}" if wrong else "it is empty"
        raise WhatwhereError(f"{file} has no sentence that can be used: {_FORM}, such as a.jpg,A dog runs. ({why})")
    problems += wrong
    return found


def _rows(file: Path) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the number of the first line of each row of a table with its fields, or with what is wrong with it. Empty
    lines and the names of the columns are left out.

    After a row whose quotation marks are wrong, reading goes on at the next line, so that one of them does not take
    what follows into its sentence.
    """
    lines = list(io.StringIO(_text(file)))
    done = 0
    while done < len(lines):
        rows = csv.reader(map(lines.__getitem__, range(done, len(lines))), strict=True)
        start = done
        try:
            for row in rows:
                is_title = done == 0 and [one.strip().lower() for one in row] == ["image", "caption"]
                if "".join(row).strip() and not is_title:
                    yield done + 1, row
                done = start + rows.line_num
        except csv.Error as error:
            shown = lines[done].strip()[:60]
            yield (
                done + 1,
                f"it cannot be read ({error}): double the quotation marks inside a sentence; it is {shown!r}",
            )
            done += 1


def _part(listing: Path, finder: ImageFinder, sentences: Captions, problems: list[Problem]) -> Captions:
    """Return the sentences of the images that a file lists."""
    part: Captions = {}
    for number, line in enumerate(_text(listing).split("\n"), 1):
        if not (name := line.strip()):
            continue
        path = finder.find(name)
        if isinstance(path, Path) and path not in part:
            part[path] = sentences.get(path, [])
        else:
            reason = path if isinstance(path, str) else f"{name[:80]!r} is listed already, left out"
            problems.append(Problem(str(listing), f"line {number}", reason))
    return part


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise WhatwhereError(f"{file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise WhatwhereError(f"{file} is not text in UTF-8 ({error}): convert it") from error
