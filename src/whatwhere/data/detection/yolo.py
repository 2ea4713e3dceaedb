"""YOLO's text files: a line an object, in shares of the image's sides."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import WhatwhereError, need
from ..image import SUFFIXES
from .objects import Part, Problem, RawImage, RawObject

TESTS = ("val", "valid", "test")
"""The names of the test part, the first that is there."""


def is_yolo(path: Path) -> bool:
    """Whether a path is a ``data.yaml`` or a folder with one, or a folder with ``images`` and ``labels``."""
    return path.suffix in (".yaml", ".yml") or _yaml(path) is not None or _folders(path) is not None


def read_yolo(path: Path) -> tuple[Part, Part, list[str]]:
    """Return the training and the test part and the names of the classes.

    A ``data.yaml`` names classes (``names``) and parts (``train``; ``val`` or ``test``): folders, lists of folders, or
    text files with a path a line. Without one, ``images/train``, ``images/val``, ``labels/…`` and ``classes.txt`` are
    used. The labels of ``…/images/…/a.jpg`` are in ``…/labels/…/a.txt``: lines of a class and x, y, width, height of a
    box in shares of the sides, or of a class and the corners of a polygon, which stands for the box around it. An image
    without such a file has no objects.

    Raises:
        WhatwhereError: parts, folders or names are missing, or the file is not YAML.
    """
    file = path if path.suffix in (".yaml", ".yml") else _yaml(path)
    if file is not None:
        names, parts = _described(file)
    else:
        names, folders = _names(path), _folders(path)
        assert folders is not None
        parts = {"train": [folders[0]], "test": [folders[1]]}
    train, test = (Part([], []) for _ in range(2))
    for part, places in ((train, parts["train"]), (test, parts["test"])):
        for place in places:
            for image in _images(place):
                part.images.append(_read(image, names, part))
    return train, test, names


def _yaml(folder: Path) -> Path | None:
    return next(
        (folder / name for name in ("data.yaml", "dataset.yaml", "data.yml") if (folder / name).is_file()), None
    )


def _folders(folder: Path) -> tuple[Path, Path] | None:
    """Return the folders of images for training and for tests."""
    for images, held_out in (("images/{}", TESTS), ("{}/images", TESTS)):
        train = folder / images.format("train")
        test = next(
            (folder / images.format(name) for name in held_out if (folder / images.format(name)).is_dir()), None
        )
        if train.is_dir() and test is not None:
            return train, test
    return None


def _names(folder: Path) -> list[str]:
    file = folder / "classes.txt"
    if not file.is_file():
        raise WhatwhereError(f"{folder} has no data.yaml and no classes.txt: one of them must name the classes")
    return _distinct(file, _lines(file))


def _described(file: Path) -> tuple[list[str], dict[str, list[Path]]]:
    """Return names and places of the parts as a YAML file says."""
    yaml = need("yaml", extra="detect")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise WhatwhereError(f"{file} cannot be read as YAML: {error}") from error
    names = content.get("names") if isinstance(content, Mapping) else None
    if isinstance(names, Mapping):
        names = [names[key] for key in sorted(names)] if set(names) == set(range(len(names))) else None
    if not isinstance(names, list) or not names:
        raise WhatwhereError(f"{file} must name the classes: names, a list or numbers from 0 with names")
    names = _distinct(file, [str(name) for name in names])
    test = next((name for name in TESTS if content.get(name)), None)
    if not content.get("train") or test is None:
        raise WhatwhereError(f"{file} must name the images for training and for tests: train, and val or test")
    root = file.parent / str(content.get("path") or "")
    root = root if root.is_dir() else file.parent
    places = {"train": _places(file, root, content["train"]), "test": _places(file, root, content[test])}
    return names, places


def _distinct(file: Path, names: list[str]) -> list[str]:
    if odd := sorted({name for name in names if names.count(name) > 1}):
        raise WhatwhereError(f"{file} has several classes of one name ({', '.join(odd[:8])}): give each its own")
    return names


def _lines(file: Path) -> list[str]:
    """Return the lines of a text file that are not empty."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise WhatwhereError(f"{file} cannot be read as text: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _places(file: Path, root: Path, entry: Any) -> list[Path]:
    found = []
    for one in entry if isinstance(entry, Sequence) and not isinstance(entry, str) else [entry]:
        word = str(one)
        guesses = [root / word, file.parent / word, file.parent / word.removeprefix("../"), root / word / "images"]
        place = next((guess for guess in guesses if guess.exists()), None)
        if place is None:
            raise WhatwhereError(f"{file} names {word!r}, which is not there: looked for {root / word}")
        found.append(place)
    return found


def _images(place: Path) -> list[Path]:
    """Return the images of a folder, at any depth, or of a text file with a path a line."""
    if place.is_dir():
        return sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [place.parent / line for line in _lines(place)]


def _labels(image: Path) -> Path:
    """Return the file with the labels of an image: ``labels`` in place of the last ``images`` of its path."""
    parts = list(image.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _read(image: Path, names: Sequence[str], part: Part) -> RawImage:
    file = _labels(image)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        part.problems.append(Problem(str(file), "", "there is no such label file, the image counts as empty"))
        lines = []
    except (OSError, ValueError) as error:
        part.problems.append(Problem(str(file), "", f"the file is broken ({error}), the image counts as empty"))
        lines = []
    objects = [_object(number, line.split(), names) for number, line in enumerate(lines, 1) if line.strip()]
    return RawImage(image, file, objects, relative=True)


def _object(number: int, words: Sequence[str], names: Sequence[str]) -> RawObject:
    try:
        values = [float(word) for word in words]
    except ValueError:
        return RawObject(number, None, None, problem=f"the line {' '.join(words)!r} is not made of numbers, left out")
    first = values[0]
    if not math.isfinite(first) or first != int(first) or not 0 <= first < len(names):
        reason = f"the class {words[0]} is not among the {len(names)} classes, left out"
        return RawObject(number, words[0], None, problem=reason)
    label, rest = names[int(first)], values[1:]
    if len(rest) == 4:
        x, y, width, height = rest
        return RawObject(number, label, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    if len(rest) >= 6 and len(rest) % 2 == 0:
        if not all(math.isfinite(value) for value in rest):
            return RawObject(number, label, None, problem="the polygon is not finite, left out")
        return RawObject(number, label, (min(rest[::2]), min(rest[1::2]), max(rest[::2]), max(rest[1::2])))
    return RawObject(
        number, label, None, problem=f"{len(values)} numbers: 5 make a box, an odd number from 7 a polygon, left out"
    )
