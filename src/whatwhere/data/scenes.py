"""Digit scenes: handwritten digits on photographs, among fragments of other digits. Nothing is downloaded."""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ..errors import WhatwhereError
from .cache import Arrays, cache_file, cached
from .dataset import MemoryDataset, Splits
from .drawing import COLOURS, Material, Pose, background, cut, draw, inked, material, paint, place
from .sentences import NUMERALS, describe

if TYPE_CHECKING:
    from PIL import Image

FORMAT = 1  # to be raised when a change gives other scenes for the same config
Split = Literal["train", "test"]


@dataclass(frozen=True)
class SceneConfig:
    """What digit scenes look like. Ranges are (least, most), both inclusive.

    Attributes:
        size: side of a scene, in pixels.
        train: number of scenes to train on.
        test: number of scenes to test on.
        digits: whole digits in a scene.
        clutter: fragments of other digits in a scene.
        scale: height of a whole digit, as a share of the scene's side.
        fragment: sides of the window that cuts out a fragment, as a share of the height of its digit.
        rotation: largest rotation in either direction, in degrees.
        label: what gives the class: ``"digit"``, the largest digit, or ``"colour-digit"``, its colour too (100
            classes).
        contrast: least distance between the colour of a digit and what is below it, from 0 to 1 (black on white).
        seed: of everything random.

    Raises:
        WhatwhereError: a value out of range; the message says the range.

    Example:
        >>> SceneConfig(digits=(1, 4), train=100).size
        32
    """

    size: int = 32
    train: int = 6000
    test: int = 2000
    digits: tuple[int, int] = (1, 1)
    clutter: tuple[int, int] = (1, 1)
    scale: tuple[float, float] = (0.5, 0.65)
    fragment: tuple[float, float] = (0.35, 0.5)
    rotation: float = 8.0
    contrast: float = 0.5
    label: str = "digit"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (least, most) in {
            "digits": self.digits,
            "clutter": self.clutter,
            "scale": self.scale,
            "fragment": self.fragment,
        }.items():
            if least > most:
                raise WhatwhereError(f"scenes: {name} is (least, most), got {(least, most)}: swap the two")
        smallest = 8 / self.size if self.size > 0 else 1.0
        for right, what in (
            (16 <= self.size <= 1024, f"size is a side of 16 to 1024 pixels, not {self.size}"),
            (self.train > 0 and self.test > 0, f"train and test are at least 1, not {self.train} and {self.test}"),
            (self.digits[0] >= 1 and self.digits[1] <= 9, f"digits is 1 to 9 a scene, not {self.digits}"),
            (self.clutter[0] >= 0, f"clutter is 0 or more fragments, not {self.clutter}"),
            (
                smallest <= self.scale[0] and self.scale[1] <= 0.65,
                f"scale is {smallest:.3g} (8 pixels of {self.size}) to 0.65, not {self.scale}",
            ),
            (self.fragment[0] >= 0.1 and self.fragment[1] <= 0.8, f"fragment is 0.1 to 0.8, not {self.fragment}"),
            (0 <= self.rotation <= 45, f"rotation is 0 to 45 degrees, not {self.rotation}"),
            (0 <= self.contrast <= 1, f"contrast is 0 to 1, not {self.contrast}"),
            (self.label in ("digit", "colour-digit"), f"label is digit or colour-digit, not {self.label!r}"),
            (self.seed >= 0, f"seed is 0 or more, not {self.seed}"),
        ):
            if not right:
                raise WhatwhereError(f"scenes: {what}")


class Scenes(MemoryDataset):
    """Digit scenes in memory. The digits of a scene are ordered by size, the largest first, and it gives the class.

    Attributes:
        objects: for each scene, the classes of its digits, ``int64 (k,)``, in the order of ``boxes``.
        colours: for each scene, the names of their colours.
        sources: for each scene and digit, the index in scikit-learn's ``load_digits``, ``int (N, most digits)``; -1
            where there is none.
        pieces: the same for the clutter, ``int (N, most fragments)``.

    Example:
        >>> train, _ = open_scenes(SceneConfig(train=20, test=10), progress=False)
        >>> train.name(17), train.objects[0].tolist() == [int(train.labels[0])]
        ('scene 17', True)
    """

    def __init__(self, arrays: Arrays, label: str = "digit") -> None:
        side = arrays["images"].shape[-1]
        counts = (arrays["labels"] >= 0).sum(1)
        names = list(COLOURS)
        classes: tuple[str, ...] = NUMERALS
        first = arrays["labels"][:, 0].astype(np.int64)
        if label == "colour-digit":
            classes = tuple(f"{colour} {numeral}" for colour in names for numeral in NUMERALS)
            first = first + len(NUMERALS) * arrays["colours"][:, 0]
        super().__init__(
            torch.from_numpy(arrays["images"]),
            classes,
            torch.from_numpy(first),
            flip=False,
            boxes=[torch.from_numpy(b[:k].astype(np.float32)) for b, k in zip(arrays["boxes"], counts, strict=True)],
            sentences=[
                describe(labels[:k], [names[c] for c in colours[:k]], boxes[:k], side)
                for labels, colours, boxes, k in zip(
                    arrays["labels"].tolist(), arrays["colours"].tolist(), arrays["boxes"].tolist(), counts, strict=True
                )
            ],
        )
        self.objects: list[Tensor] = [
            torch.from_numpy(row[:k].astype(np.int64)) for row, k in zip(arrays["labels"], counts, strict=True)
        ]
        self.colours = [[names[c] for c in row[:k]] for row, k in zip(arrays["colours"].tolist(), counts, strict=True)]
        self.sources: NDArray[Any] = arrays["sources"]
        self.pieces: NDArray[Any] = arrays["pieces"]

    def name(self, index: int) -> str:
        """Return "scene 17" for the eighteenth scene."""
        return f"scene {index}"


def open_scenes(config: SceneConfig | None = None, *, progress: bool = True) -> Splits:
    """Return the digit scenes of ``config``, from the cache if they were made before.

    No handwritten digit and no part of a photograph is in both splits. Scene i depends on the seed and on i alone, not
    on the number of scenes. Scenes 0 to 9 have all ten classes, and so do 10 to 19 and so on, so the first n scenes are
    a fair sample.

    Args:
        config: what they look like; by default ``SceneConfig()``.
        progress: show progress bars.

    Returns:
        ``Splits(train, test)`` of :class:`Scenes`.

    Example:
        >>> train, test = open_scenes(SceneConfig(train=20, test=10), progress=False)
        >>> train.images.shape, train.sentences[0]
        (torch.Size([20, 3, 32, 32]), 'a large white five on the left')
    """
    config = config or SceneConfig()
    return Splits(_open(config, "train", config.train, progress), _open(config, "test", config.test, progress))


def _open(config: SceneConfig, split: Split, count: int, progress: bool) -> Scenes:
    look = {key: value for key, value in asdict(config).items() if key not in ("train", "test", "label")}
    file = cache_file("scenes", {"format": FORMAT, "split": split, "count": count, **look})
    shape = (count, 3, config.size, config.size)
    make = functools.partial(make_scenes, config, split, range(count), progress=progress)
    return Scenes(cached(file, make, functools.partial(_valid, shape)), config.label)


def _valid(shape: tuple[int, ...], arrays: Arrays) -> bool:
    return (
        arrays.keys() == {"images", "labels", "colours", "boxes", "sources", "pieces"}
        and arrays["images"].shape == shape
        and arrays["images"].dtype == np.uint8
        and all(len(array) == shape[0] for array in arrays.values())
    )


def make_scenes(config: SceneConfig, split: Split, which: Sequence[int], *, progress: bool = True) -> Arrays:
    """Draw the scenes with the numbers ``which`` of a split.

    Returns:
        Arrays with a row for each scene: ``images`` uint8 (n, 3, S, S); ``labels``, ``colours`` (indices into
        ``COLOURS``) and ``sources`` int16 (n, most digits); ``boxes`` int16 (n, most digits, 4); ``pieces`` int16
        (n, most fragments). -1 means none.

    Example:
        >>> make_scenes(SceneConfig(), "train", [3, 7], progress=False)["images"].shape
        (2, 3, 32, 32)
    """
    count, most = len(which), config.digits[1]
    arrays: Arrays = {
        "images": np.empty((count, 3, config.size, config.size), np.uint8),
        "boxes": np.full((count, most, 4), -1, np.int16),
        "pieces": np.full((count, config.clutter[1]), -1, np.int16),
        **{name: np.full((count, most), -1, np.int16) for name in ("labels", "colours", "sources")},
    }
    rows = track(
        enumerate(which),
        f"making {count} {split} scenes",
        total=count,
        console=Console(stderr=True),
        transient=True,
        disable=not progress,
    )
    for row, number in rows:
        _draw(config, split, number, {name: array[row] for name, array in arrays.items()})
    return arrays


def _draw(config: SceneConfig, split: Split, number: int, scene: Arrays) -> None:
    """Draw one scene into its row of every array."""
    made_of = material(split)
    key = (config.seed, 0 if split == "train" else 1)
    rng = np.random.default_rng((*key, 0, number))
    first = made_of.classes[np.random.default_rng((*key, 1, number // 10)).permutation(10)[number % 10]]
    chosen = [first[rng.integers(len(first))]]
    more = int(rng.integers(config.digits[0], config.digits[1] + 1)) - 1
    chosen += rng.integers(len(made_of.glyphs), size=more).tolist()

    canvas = background(made_of, config.size, rng)
    digits = _arrange(config, made_of, chosen, rng)
    for i in range(int(rng.integers(config.clutter[0], config.clutter[1] + 1))):
        while (which := int(rng.integers(len(made_of.glyphs)))) in chosen:
            pass
        pose = _pose(config, config.scale[1], rng)
        width, height = (max(3, round(pose.height * rng.uniform(*config.fragment))) for _ in range(2))
        dark = made_of.dark[which]
        piece = cut(made_of.glyphs[which], pose, dark[rng.integers(len(dark))], width, height)
        x, y = int(rng.integers(config.size - piece.width + 1)), int(rng.integers(config.size - piece.height + 1))
        paint(canvas, piece, x, y, config.contrast, rng)
        scene["pieces"][i] = made_of.numbers[which]
    for i, (which, ink, x, y) in enumerate(digits):
        scene["colours"][i] = paint(canvas, ink, x, y, config.contrast, rng)
        scene["boxes"][i] = np.add(inked(ink), (x, y, x, y))
        scene["labels"][i], scene["sources"][i] = made_of.labels[which], made_of.numbers[which]
    scene["images"][:] = np.asarray(canvas).transpose(2, 0, 1)


def _pose(config: SceneConfig, most: float, rng: np.random.Generator) -> Pose:
    """Draw at random a size (at most the share ``most`` of the side), a rotation and a stretch."""
    u, v, w = rng.random(3).tolist()
    least = config.scale[0]
    return Pose(config.size * (least + u * (most - least)), config.rotation * (2 * v - 1), 0.9 + 0.2 * w)


def _arrange(
    config: SceneConfig, made_of: Material, chosen: list[int], rng: np.random.Generator
) -> list[tuple[int, "Image.Image", int, int]]:
    """Draw and place whole digits that do not touch: (digit, ink, x, y), longest side first, ``chosen[0]`` the longest.

    Where they do not fit they are drawn again, each time with a smaller upper limit of their size; at last with the
    first digit as large as it may be and the others as small.
    """
    least, most = config.scale
    for attempt in range(120):
        poses = sorted((_pose(config, most, rng) for _ in chosen), key=lambda pose: -pose.height)
        if attempt >= 60:
            poses[0] = replace(poses[0], height=config.size * config.scale[1])
        drawn = []
        for which, pose in zip(chosen, poses, strict=True):
            ink = draw(made_of.glyphs[which], pose)
            ink = ink.crop(ink.getbbox())
            left, top, right, bottom = inked(ink)
            drawn.append((max(right - left, bottom - top), which, ink))
        if all(drawn[0][0] >= longest for longest, _, _ in drawn[1:]):
            drawn[1:] = sorted(drawn[1:], key=lambda one: -one[0])
            corners = place([ink.size for _, _, ink in drawn], config.size, rng)
            if corners is not None:
                return [(which, ink, x, y) for (_, which, ink), (x, y) in zip(drawn, corners, strict=True)]
        most = max(least, 0.9 * most)
    raise WhatwhereError(
        f"scenes: no room for {len(chosen)} digits of at least {least:.2g} of the scene's side; "
        "ask for fewer (digits) or smaller ones (scale)"
    )
