"""COCO's caption files: all sentences of a part of a data set in one JSON file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import WhatwhereError
from ..detection.objects import Problem
from .listing import Captions, ImageFinder, make_parts, read_json, require_images, sentence_problem
from .records import CaptionParts

LAYOUT = "annotations/captions_train*.json and annotations/captions_val*.json of one year"
_START = "captions_"


def is_coco_captions(folder: Path) -> bool:
    """Whether a folder has COCO's caption files, for training and for tests.

    Example:
        >>> is_coco_captions(Path("no such folder"))
        False
    """
    return all(_files(folder))


def read_coco_captions(folder: Path) -> CaptionParts:
    """Return the training and the test part of a folder in the layout of COCO's captions.

    The sentences are in ``annotations/captions_train*.json`` and ``annotations/captions_val*.json``, the newest two of
    one year; the images are in a folder of the part's name (``train2014``, ``images/train2014``), in ``images``, beside
    the file, or in the folder itself.

    An image whose file is missing stays, and so does one without captions. An id that two images have is of no use: the
    captions of both would be mixed. A file in both parts is only tested on.

    Args:
        folder: holds ``annotations``.

    Raises:
        WhatwhereError: no such files, files of different years or not in COCO's format, or a part none of whose images
            is there.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     for part in ("train", "val"):
        ...         (folder / f"{part}2017").mkdir()
        ...         Image.new("RGB", (8, 8)).save(folder / f"{part}2017" / "a.png")
        ...         (folder / "annotations").mkdir(exist_ok=True)
        ...         _ = (folder / "annotations" / f"captions_{part}2017.json").write_text(
        ...             '{"images": [{"id": 7, "file_name": "a.png"}],'
        ...             ' "annotations": [{"image_id": 7, "caption": "A black square."}, {"image_id": 8}]}'
        ...         )
        ...     train, test, problems = read_coco_captions(folder)
        >>> train[0].path.parent.name, train[0].captions
        ('train2017', ('A black square.',))
        >>> problems[0].reason
        'no image that is in order has the id 8, left out'
    """
    train, test = _pair(folder)
    problems: list[Problem] = []
    return make_parts(train, _read(train, folder, problems), test, _read(test, folder, problems), problems)


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the caption files for training and for tests."""
    train, test = (sorted((folder / "annotations").glob(f"{_START}{part}*.json")) for part in ("train", "val"))
    return train, test


def _pair(folder: Path) -> tuple[Path, Path]:
    """Return the newest two files of one year."""
    train, test = _files(folder)
    if not train or not test:
        inside = ", ".join(file.name for file in train + test) or "neither"
        raise WhatwhereError(f"{folder} needs {LAYOUT}, it has {inside}: fetch COCO's caption annotations into it")
    ends = {file.stem.removeprefix(f"{_START}val"): file for file in test}
    for file in reversed(train):
        if (end := file.stem.removeprefix(f"{_START}train")) in ends:
            return file, ends[end]
    first, second = train[-1], test[-1]
    if _part(first).removeprefix("train") != _part(second).removeprefix("val"):
        raise WhatwhereError(
            f"{folder} needs {LAYOUT}, it has {', '.join(file.name for file in train + test)}: the years divide the "
            "same images in different ways, so test images would be learned from"
        )
    return first, second


def _part(file: Path) -> str:
    """Return the part that a file is for as COCO names its images' folder, such as train2014."""
    found = re.match(r"(train|val)(\d{4})?", file.stem.removeprefix(_START))
    assert found is not None
    return found.group()


def _read(file: Path, folder: Path, problems: list[Problem]) -> Captions:
    content = read_json(file)
    wanted = ("images", "annotations")
    if not isinstance(content, Mapping) or not all(isinstance(content.get(name), list) for name in wanted):
        has = f"the keys {', '.join(map(repr, content))[:80]}" if isinstance(content, Mapping) else "no keys"
        raise WhatwhereError(
            f"{file} is not in the format of COCO's captions: it needs the lists images and annotations, it has {has}"
        )
    word = file.stem.removeprefix(_START)
    places = [place for name in (word, _part(file)) for place in (name, f"images/{name}")]
    finder = ImageFinder(folder, [*places, "images", file.parent.name, ""])
    paths = _images(file, content["images"], finder, problems)
    captions: Captions = {path: [] for path in paths.values()}
    require_images(file, captions, finder)
    for position, one in enumerate(content["annotations"], 1):
        number = one.get("id") if isinstance(one, Mapping) else None
        where = f"caption {number if isinstance(number, int) else position}"
        if reason := _add(one, paths, captions):
            problems.append(Problem(str(file), where, reason))
    return captions


def _images(file: Path, listed: Sequence[Any], finder: ImageFinder, problems: list[Problem]) -> dict[int | str, Path]:
    """Return the path of each image by its id."""
    names: dict[int | str, str] = {}
    mixed: set[int | str] = set()
    for position, one in enumerate(listed, 1):
        number, name = (one.get("id"), one.get("file_name")) if isinstance(one, Mapping) else (None, None)
        if isinstance(number, bool) or not isinstance(number, (int, str)) or not isinstance(name, str):
            reason = "no id or no file_name, left out"
        elif number not in names:
            names[number] = name
            continue
        elif names[number] == name:
            reason = f"the id {number!r} is listed already, left out"
        else:
            mixed.add(number)
            reason = f"its id {number!r} is that of {names[number][:80]!r} too, so captions are mixed: both left out"
        problems.append(Problem(str(file), f"image {position}", reason))
    paths: dict[int | str, Path] = {}
    ids: dict[Path, int | str] = {}
    for number, name in names.items():
        if number in mixed:
            continue
        path = finder.find(name)
        if isinstance(path, str):
            problems.append(Problem(str(file), f"image with the id {ascii(number)[:80]}", path))
            continue
        if path in ids:
            reason = f"the ids {ids[path]!r} and {number!r} are this image, the captions of both are put together"
            problems.append(Problem(str(file), f"image {path.name}", reason))
        paths[number] = path
        ids.setdefault(path, number)
    return paths


def _add(one: Any, paths: Mapping[int | str, Path], captions: Captions) -> str:
    """Add a caption to its image; return why not, or ""."""
    if not isinstance(one, Mapping):
        return "not a mapping, left out"
    number = one.get("image_id")
    known = isinstance(number, (int, str)) and not isinstance(number, bool)
    path = paths.get(number) if known else None  # type: ignore[arg-type]
    if path is None:
        return f"no image that is in order has the id {ascii(number)[:80]}, left out"
    if "caption" not in one:
        return "no caption, left out"
    sentence = one["caption"]
    if not (reason := sentence_problem(sentence)):
        captions[path].append(sentence)
    return reason
