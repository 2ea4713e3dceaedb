"""Opening images with objects, from digit scenes or folders."""

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ...errors import WhatwhereError, closest
from ..config import DataConfig, scene_config
from ..dataset import Broken
from ..image import Unreadable, read_sides
from ..scenes import SceneConfig, Scenes, open_scenes
from .coco import is_coco, read_coco
from .config import DetectionDataConfig, is_scenes
from .dataset import DetectionDataset, DetectionSplits, read_record
from .objects import ImageObjects, Part, Problem, RawImage, clean_image
from .splitting import at_most
from .voc import is_voc, read_voc
from .yolo import is_yolo, read_yolo

T = TypeVar("T")
SIZE = 320
"""Longest side of the images of folders, where none is given."""
SCENES = SceneConfig(size=96, train=3000, test=500, digits=(1, 4), clutter=(1, 3), scale=(0.2, 0.4))
"""The digit scenes of detection: several small digits."""
LAYOUTS = (
    "expected Pascal VOC (Annotations/*.xml, JPEGImages/, ImageSets/Main/*.txt; or year folders of it), COCO "
    "(annotations/instances_train*.json and instances_val*.json, or train/_annotations.coco.json and "
    "valid/_annotations.coco.json) or YOLO (data.yaml, or images/train, images/val, labels/ and classes.txt)"
)


def open_detection(config: DetectionDataConfig, *, progress: bool = True) -> DetectionSplits:
    """Open the images that ``config`` names.

    Objects and images that are not in order are left out or mended, never raised: each is in ``problems`` of its part
    with file and object, and a warning says how many there are. An image without objects stays: it is all background.

    Args:
        config: which images.
        progress: show progress bars.

    Raises:
        WhatwhereError: there is no such data, or nothing in it to learn from.

    Example:
        >>> train, test = open_detection(DetectionDataConfig(("scenes:train=20:test=10",)), progress=False)
        >>> len(train), train.size, train.classes[:2]
        (20, 96, ('zero', 'one'))
    """
    for name in ("size", "train_limit", "test_limit"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise WhatwhereError(f"{name} must be at least 1, or None, got {value}")
    if not config.data:
        raise WhatwhereError("data names nothing: give 'scenes' or at least one folder")
    if any(map(is_scenes, config.data)):
        if len(config.data) > 1:
            raise WhatwhereError(f"data is {' '.join(config.data)}: scenes and folders cannot be mixed")
        return _scenes(config, progress)
    return _folders(config, progress)


def _scenes(config: DetectionDataConfig, progress: bool) -> DetectionSplits:
    asked = DataConfig(config.data[0], config.size, config.train_limit, config.test_limit, config.data_seed)
    splits = open_scenes(scene_config(asked, SCENES), progress=progress)
    return DetectionSplits(*(_from_scenes(part, bool(config.flip)) for part in splits))  # type: ignore[arg-type]


def _from_scenes(scenes: Scenes, flip: bool) -> DetectionDataset:
    assert scenes.boxes is not None
    records = []
    for index, (boxes, labels) in enumerate(zip(scenes.boxes, scenes.objects, strict=True)):
        none = torch.zeros(len(labels), dtype=torch.bool)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        size = (scenes.size, scenes.size)
        records.append(ImageObjects(scenes.name(index), size, boxes, labels, none, none, areas, index + 1))
    return DetectionDataset(records, scenes.classes, scenes.size, flip=flip, pixels=scenes.images)  # type: ignore[arg-type]


def _folders(config: DetectionDataConfig, progress: bool) -> DetectionSplits:
    parts, numbers = _read([Path(word).expanduser() for word in config.data], config.data_seed)
    classes = list(numbers)
    parts = tuple(Part(_numbered(part.images), part.problems) for part in parts)  # type: ignore[assignment]
    limits = (config.train_limit, config.test_limit)
    cleaned = []
    for part, limit, name in zip(parts, limits, ("training", "test"), strict=True):
        chosen = at_most(part.images, limit, config.data_seed)
        cleaned.append(_clean(chosen, part.problems, classes, progress, f"looking at the {name} images"))
    _compare_classes(cleaned, classes, config.data)
    size = config.size or SIZE
    share = sum(_pixels(record, size) for records, _, _ in cleaned for record in records)
    fits = 3 * share <= config.memory_gb * 1e9
    made = []
    for (records, problems, broken), name in zip(cleaned, ("training", "test"), strict=True):
        pixels = None
        if fits:
            records, pixels, unread = _decode(records, size, progress, f"reading the {name} images")
            broken = broken + unread
        made.append(
            DetectionDataset(
                records,
                classes,
                size,
                flip=config.flip is not False,
                category_ids=list(numbers.values()),
                problems=problems,
                pixels=pixels,
                broken=broken,
            )
        )
    for dataset, name in zip(made, ("to learn from", "to test on"), strict=True):
        if not any(len(record.labels) for record in dataset.records):
            why = [str(one) for one in (*dataset.problems[:5], *(f"{b.path}: {b.reason}" for b in dataset.broken[:5]))]
            raise WhatwhereError(
                "\n  ".join([f"{' '.join(config.data)}: no image {name} has an object that is in order", *why])
            )
    _warn(made)
    return DetectionSplits(*made)


def _read(folders: Sequence[Path], seed: int) -> tuple[tuple[Part, Part], dict[str, int]]:
    """Return both parts of all folders together, and the number of each class."""
    train, test = Part([], []), Part([], [])
    numbers: dict[str, int] | None = None
    labels: set[str] = set()
    voc = [folder for folder in folders if folder.is_dir() and is_voc(folder)]
    for folder in folders:
        names: dict[str, int] | None = None
        if not folder.exists():
            raise WhatwhereError(f"there is no {folder}{closest(str(folder), ['scenes'])}; {LAYOUTS}")
        if folder in voc:
            if folder != voc[0]:  # all of them are read together, as one may hold the tests of all
                continue
            found = read_voc(voc, seed)
            labels |= {one.label for part in found for image in part.images for one in image.objects if one.label}
        elif folder.is_dir() and is_coco(folder):
            *found, names = read_coco(folder)  # type: ignore[assignment]
        elif is_yolo(folder):
            *found, listed = read_yolo(folder)  # type: ignore[assignment]
            names = {name: number for number, name in enumerate(listed, 1)}
        else:
            inside = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else "a file"
            raise WhatwhereError(
                f"{folder} has no annotations that are known here, it has {inside or 'nothing'}; {LAYOUTS}"
            )
        if numbers is not None and names is not None and numbers != names:
            raise WhatwhereError(f"{folder} has other classes than the folders before it: make them the same")
        numbers = names if names is not None else numbers
        for whole, part in zip((train, test), found, strict=True):
            whole.images.extend(part.images)
            whole.problems.extend(part.problems)
    if numbers is None:
        numbers = {name: number for number, name in enumerate(sorted(labels), 1)}
    elif odd := sorted(labels - numbers.keys()):
        raise WhatwhereError(f"the VOC folders have classes that the others do not have: {', '.join(odd[:8])}")
    return (train, test), numbers


def _numbered(images: list[RawImage]) -> list[RawImage]:
    """Return the images with the files' own numbers where all have one and no two share it, else without."""
    ids = [image.image_id for image in images]
    own = None not in ids and len(set(ids)) == len(ids)
    return images if own else [replace(image, image_id=None) for image in images]


Cleaned = tuple[list[ImageObjects], list[Problem], list[Broken]]


def _clean(
    images: Sequence[RawImage], earlier: Sequence[Problem], classes: Sequence[str], progress: bool, title: str
) -> Cleaned:
    """Return the images that can be read with those of their objects that are in order, and what is wrong."""
    numbers = {name: index for index, name in enumerate(classes)}
    records, problems, broken = [], list(earlier), []
    with ThreadPoolExecutor() as pool:
        for position, (raw, sides) in enumerate(
            zip(images, _shown(pool.map(_sides, images), len(images), title, progress), strict=True), 1
        ):
            if isinstance(sides, str):
                broken.append(Broken(str(raw.path), sides))
                continue
            (width, height), upright, wrong = sides
            if wrong:
                problems.append(Problem(str(raw.source), raw.path.name, wrong))
            record, found = clean_image(raw, numbers, (width, height), upright=upright, image_id=position)
            records.append(record)
            problems += found
    return records, problems, broken


def _sides(raw: RawImage) -> tuple[tuple[int, int], bool, str] | str:
    """Return (width, height) of an image as its boxes mean it, whether that is upright, and what is wrong; or the
    reason why it cannot be read.
    """
    try:
        sides = read_sides(raw.path)
        if raw.size in (None, sides):
            return sides, True, ""
        stored = read_sides(raw.path, upright=False)
    except Unreadable as error:
        return error.reason
    if raw.size == stored:
        return stored, False, ""
    assert raw.size is not None
    said, there = (f"{width}×{height}" for width, height in (raw.size, sides))
    return sides, True, f"it says that the image has {said} pixels, but the file has {there}, which counts"


def _decode(
    records: list[ImageObjects], size: int, progress: bool, title: str
) -> tuple[list[ImageObjects], list[Tensor], list[Broken]]:
    """Return the images that can be read, their pixels, and those that cannot be read."""
    kept, pixels, broken = [], [], []
    with ThreadPoolExecutor() as pool:
        results = _shown(pool.map(lambda record: read_record(record, size), records), len(records), title, progress)
        for record, result in zip(records, results, strict=True):
            if isinstance(result, str):
                broken.append(Broken(record.path, result))
            else:
                kept.append(record)
                pixels.append(result)
    return kept, pixels, broken


def _shown(results: Iterable[T], total: int, title: str, progress: bool) -> Iterable[T]:
    """Pass results on behind a progress bar."""
    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal)
    return track(results, title, total=total, console=console, transient=True, disable=hidden)


def _pixels(record: ImageObjects, size: int) -> int:
    """Return how many pixels an image has whose long side is ``size``."""
    height, width = record.size
    return round(height * width * (size / max(height, width)) ** 2)


def _compare_classes(parts: Sequence[Cleaned], classes: Sequence[str], data: Sequence[str]) -> None:
    """Note the classes that only one part has, and those that none has."""
    counts = [Counter(label for record in records for label in record.labels.tolist()) for records, _, _ in parts]
    for index, name in enumerate(classes):
        train, test = (count[index] for count in counts)
        where = " ".join(data)
        if test and not train:
            reason = f"only the test part has it ({test} objects), so nothing can learn it"
            parts[1][1].append(Problem(where, f"class {name}", reason))
        elif train and not test:
            reason = f"only the training part has it ({train} objects), so it is not measured"
            parts[0][1].append(Problem(where, f"class {name}", reason))


def _warn(parts: Sequence[DetectionDataset]) -> None:
    lines = [str(one) for part in parts for one in part.problems]
    lines += [f"{one.path}: {one.reason}" for part in parts for one in part.broken]
    if lines:
        reasons = [one.reason for part in parts for one in part.problems]
        reasons += [one.reason for part in parts for one in part.broken]
        kinds = Counter(re.sub(r"'[^']*'|(?<![A-Za-z])-?\d[\d.e+×-]*(, -?[\d.e+-]+)*", "…", one) for one in reasons)
        counts = "".join(f"\n  {count}: {kind}" for kind, count in kinds.most_common(10))
        more = f"\n  and {len(lines) - 10} more" if len(lines) > 10 else ""
        warnings.warn(
            f"{len(lines)} problems in images and annotations:{counts}\nthe first:\n  "
            + "\n  ".join(lines[:10])
            + more,
            RuntimeWarning,
            stacklevel=4,
        )
