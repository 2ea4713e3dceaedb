"""Annotated objects: as a file has them, and as a detector can learn from them; what is wrong is said, never raised."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

SLACK = 1.0
"""Pixels by which a box may stick out of its image without a word: annotations that count from 1, and rounding."""
SMALLEST = 0.01
"""Pixels that a box is wide and high at least; a smaller one counts as empty."""

Box = tuple[float, float, float, float]


class Problem(NamedTuple):
    """What was left out of annotations, or mended in them.

    Attributes:
        path: the annotation file, or the image.
        object: which object of it, such as "object 3 (dog)"; "" where it is the whole file.
        reason: what is wrong, and what was done.

    Example:
        >>> str(Problem("a.xml", "object 3 (dog)", "the box is empty, left out"))
        'a.xml, object 3 (dog): the box is empty, left out'
    """

    path: str
    object: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}{f', {self.object}' if self.object else ''}: {self.reason}"


@dataclass(frozen=True)
class RawObject:
    """One object as an annotation file has it.

    Attributes:
        number: its position in the file, from 1.
        label: its class; None where the file names none.
        box: x1, y1, x2, y2 in pixels, whatever they are; None where the file has none that can be read.
        crowd: whether it stands for a crowd of objects (COCO).
        difficult: whether it is marked as difficult (VOC).
        area: in pixels, where the file says one.
        problem: why there is no box.
    """

    number: int
    label: str | None
    box: Box | None
    crowd: bool = False
    difficult: bool = False
    area: float | None = None
    problem: str = ""

    @property
    def words(self) -> str:
        """The object in a message."""
        return f"object {self.number}" + (f" ({self.label})" if self.label else "")


@dataclass(frozen=True)
class RawImage:
    """One image and its objects as an annotation file has them.

    Attributes:
        path: the image.
        source: the annotation file.
        objects: in the order of the file.
        size: (width, height) as the file says, where it does.
        image_id: the file's own number of the image, where it has one.
        relative: whether boxes are in shares of the image's sides and not in pixels.
    """

    path: Path
    source: Path
    objects: Sequence[RawObject]
    size: tuple[int, int] | None = None
    image_id: int | None = None
    relative: bool = False


class Part(NamedTuple):
    """The images of a part of a data set as its annotation files have them, and what is wrong with these files."""

    images: list[RawImage]
    problems: list[Problem]


@dataclass(frozen=True)
class ImageObjects:
    """One image and the objects in it that are in order.

    Attributes:
        path: the image; a name where it is no file.
        size: its (height, width) in pixels.
        boxes: ``float32 (k, 4)``: x1, y1, x2, y2 in pixels, inside the image, x2 > x1 and y2 > y1.
        labels: ``int64 (k,)``, indices into the classes.
        crowd: ``bool (k,)``.
        difficult: ``bool (k,)``.
        areas: ``float32 (k,)`` in pixels, as the file says, or else of the box.
        image_id: the number of the image in COCO's format.
        upright: whether the boxes are for the image with its EXIF orientation applied.
    """

    path: str
    size: tuple[int, int]
    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    difficult: Tensor
    areas: Tensor
    image_id: int = 0
    upright: bool = True


def clean_box(box: Box, width: int, height: int) -> tuple[Box | None, str]:
    """Return a box inside its image, or None, and what is wrong with it ("" if nothing is).

    Example:
        >>> clean_box((10, 5, 120, 50), width=100, height=60)
        ((10.0, 5.0, 100.0, 50.0), 'the box 10, 5, 120, 50 sticks out of the image of 100×60 pixels, cut off')
        >>> clean_box((10, 5, 10, 50), width=100, height=60)
        (None, 'the box 10, 5, 10, 50 is empty, left out')
    """
    words = "the box " + ", ".join(f"{side:g}" for side in box)
    if not all(math.isfinite(side) for side in box):
        return None, f"{words} is not finite, left out"
    x1, y1, x2, y2 = map(float, box)
    if x2 < x1 or y2 < y1:
        return None, f"{words} is inverted (x2 < x1 or y2 < y1), left out"
    if x2 - x1 < SMALLEST or y2 - y1 < SMALLEST:
        return None, f"{words} is empty, left out"
    inside = (max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2))
    if inside[2] - inside[0] < SMALLEST or inside[3] - inside[1] < SMALLEST:
        return None, f"{words} is outside of the image of {width}×{height} pixels, left out"
    if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > SLACK:
        return inside, f"{words} sticks out of the image of {width}×{height} pixels, cut off"
    return inside, ""


@dataclass
class _Kept:
    """The objects of one image that are in order, column by column."""

    boxes: list[Box] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)


def clean_image(
    raw: RawImage, numbers: dict[str, int], sides: tuple[int, int], *, upright: bool, image_id: int
) -> tuple[ImageObjects, list[Problem]]:
    """Return an image with those of its objects that are in order, and what is wrong with the others.

    Args:
        raw: the image as its annotation file has it.
        numbers: the index of each class.
        sides: (width, height) of the image itself.
        upright: see :class:`ImageObjects`.
        image_id: its number where ``raw`` has none.
    """
    width, height = sides
    kept, problems = _Kept(), []
    for one in raw.objects:
        box, problem = one.box, one.problem
        if one.label is None:
            box, problem = None, problem or "no class, left out"
        elif one.label not in numbers:
            box, problem = None, problem or f"the class {one.label!r} is not among the classes, left out"
        elif box is not None:
            if raw.relative:
                box = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
            box, problem = clean_box(box, width, height)
        if problem:
            problems.append(Problem(str(raw.source), one.words, problem))
        if box is not None and one.label is not None:
            area = (box[2] - box[0]) * (box[3] - box[1])
            kept.boxes.append(box)
            kept.labels.append(numbers[one.label])
            kept.crowd.append(one.crowd)
            kept.difficult.append(one.difficult)
            kept.areas.append(one.area if one.area is not None and math.isfinite(one.area) else area)
    return (
        ImageObjects(
            str(raw.path),
            (height, width),
            torch.tensor(kept.boxes, dtype=torch.float32).reshape(-1, 4),
            torch.tensor(kept.labels, dtype=torch.int64),
            torch.tensor(kept.crowd, dtype=torch.bool),
            torch.tensor(kept.difficult, dtype=torch.bool),
            torch.tensor(kept.areas, dtype=torch.float32),
            raw.image_id if raw.image_id is not None else image_id,
            upright,
        ),
        problems,
    )
