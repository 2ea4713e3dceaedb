"""COCO's JSON files: all annotations of a part of a data set in one."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import WhatwhereError
from .objects import Part, Problem, RawImage, RawObject

LAYOUTS = (
    ("annotations/instances_train*.json", "annotations/instances_val*.json"),
    ("train/_annotations.coco.json", "valid/_annotations.coco.json"),
    ("train/_annotations.coco.json", "val/_annotations.coco.json"),
    ("train/_annotations.coco.json", "test/_annotations.coco.json"),
    ("annotations/train.json", "annotations/val.json"),
    ("annotations/train.json", "annotations/test.json"),
    ("train.json", "val.json"),
    ("train.json", "test.json"),
)
"""Where the files of the training and the test part may be."""


def is_coco(folder: Path) -> bool:
    """Whether a folder has annotations in COCO's format, for training and for tests."""
    return _files(folder) is not None


def read_coco(folder: Path) -> tuple[Part, Part, dict[str, int]]:
    """Return the training and the test part of a folder in COCO's layout, and the number of each class.

    The annotations are in one of :data:`LAYOUTS`; the images are beside them, or in a folder of the part's name
    (``train2017``, ``images/train``), ``images``, or the folder itself.

    Raises:
        WhatwhereError: a file that is not in COCO's format, or classes that differ between the two.
    """
    files = _files(folder)
    assert files is not None
    train, test = (_read(file, folder) for file in files)
    if train[1] != test[1]:
        odd = sorted(train[1].items() ^ test[1].items())
        raise WhatwhereError(
            f"{files[0]} and {files[1]} have different categories ({', '.join(f'{n} {i}' for n, i in odd[:8])}): make "
            "them the same"
        )
    return train[0], test[0], train[1]


def _files(folder: Path) -> tuple[Path, Path] | None:
    for train, test in LAYOUTS:
        first, second = sorted(folder.glob(train)), sorted(folder.glob(test))
        if first and second:
            return first[-1], second[-1]
    return None


def _read(file: Path, folder: Path) -> tuple[Part, dict[str, int]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WhatwhereError(f"{file} is not JSON: {error}") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(content, Mapping) or not all(isinstance(content.get(name), list) for name in parts):
        raise WhatwhereError(f"{file} is not in COCO's format: it needs the lists {', '.join(parts)}")
    names = _names(file, content)
    part = Part([], [])
    images = _images(file, folder, content["images"], part)
    for position, one in enumerate(content["annotations"], 1):
        _add(file, position, one, names, images, part)
    part.images.extend(images.values())
    return part, {name: number for number, name in names.items()}


def _names(file: Path, content: Mapping[str, Any]) -> dict[int, str]:
    """Return the name of each category. One that no annotation has and that others name as what they are a part of is
    left out: Roboflow writes such a one for the whole project.
    """
    listed = [one for one in content["categories"] if isinstance(one, Mapping) and _whole(one.get("id")) is not None]
    whole = {str(one.get("supercategory")) for one in listed if one.get("supercategory") != one.get("name")}
    used = {_whole(one.get("category_id")) for one in content["annotations"] if isinstance(one, Mapping)}
    names = {one["id"]: str(one.get("name")) for one in listed}
    names = {number: name for number, name in names.items() if number in used or name not in whole}
    if odd := sorted({name for name in names.values() if list(names.values()).count(name) > 1}):
        raise WhatwhereError(f"{file} has several categories of one name ({', '.join(odd[:8])}): give each its own")
    return names


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _real(value: Any) -> float | None:
    """Return a number of JSON, whatever its size, or None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _images(file: Path, folder: Path, listed: list[Any], part: Part) -> dict[int, RawImage]:
    """Return the images by their ids."""
    word = file.stem.removeprefix("instances_") if file.stem.startswith("instances_") else file.stem
    places = [file.parent, folder / word, folder / "images" / word, folder / "images", folder]
    found: dict[int, RawImage] = {}
    for position, one in enumerate(listed, 1):
        number, name = (one.get("id"), one.get("file_name")) if isinstance(one, Mapping) else (None, None)
        if _whole(number) is None or not isinstance(number, int) or not isinstance(name, str):
            part.problems.append(Problem(str(file), f"image {position}", "no id or no file_name, left out"))
            continue
        if number in found:
            part.problems.append(Problem(str(file), f"image {name}", f"the id {number} is taken already, left out"))
            continue
        guesses = [place / name for place in places] + [place / Path(name).name for place in places]
        path = next((guess for guess in guesses if guess.is_file()), guesses[1 if word != file.stem else 0])
        width, height = _real(one.get("width")), _real(one.get("height"))
        known = width is not None and height is not None and math.isfinite(width) and math.isfinite(height)
        size = (int(width or 0), int(height or 0)) if known else None
        found[number] = RawImage(path, file, [], size, number)
    return found


def _add(
    file: Path, position: int, one: Any, names: Mapping[Any, str], images: Mapping[int, RawImage], part: Part
) -> None:
    """Add an annotation to its image."""
    if not isinstance(one, Mapping):
        part.problems.append(Problem(str(file), f"object {position}", "not a mapping, left out"))
        return
    number = one.get("id") if isinstance(one.get("id"), int) else position
    assert isinstance(number, int)
    category = one.get("category_id")
    known = _whole(category)
    label = None if category is None else str(category) if known is None else names.get(known, str(category))
    wanted = _whole(one.get("image_id"))
    image = None if wanted is None else images.get(wanted)
    if image is None:
        reason = f"there is no image with the id {one.get('image_id')!r}, left out"
        part.problems.append(Problem(str(file), RawObject(number, label, None).words, reason))
        return
    box, problem = _box(one.get("bbox"))
    area = _real(one.get("area"))
    image.objects.append(  # type: ignore[attr-defined]
        RawObject(
            number,
            label,
            box,
            crowd=bool(one.get("iscrowd", 0)),
            area=area if area is not None and 0 < area < math.inf else None,
            problem=problem,
        )
    )


def _box(bbox: Any) -> tuple[tuple[float, float, float, float] | None, str]:
    """Return corners from x, y, width, height, or why there are none."""
    if bbox is None:
        return None, "no bbox, left out"
    sides = [_real(side) for side in bbox] if isinstance(bbox, list) else []
    numbers = [side for side in sides if side is not None]
    if len(numbers) != 4 or len(sides) != 4:
        return None, f"bbox is {str(bbox)[:80]} and not four numbers, left out"
    x, y, width, height = numbers
    return (x, y, x + width, y + height), ""
