"""Drawing digit scenes: handwriting as masks, crops of photographs, colours that stand out."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import need

if TYPE_CHECKING:
    from PIL import Image

Box = tuple[int, int, int, int]

COLOURS = {
    "red": (205, 45, 45),
    "orange": (238, 132, 35),
    "yellow": (242, 214, 60),
    "green": (62, 160, 72),
    "turquoise": (45, 185, 180),
    "blue": (52, 92, 210),
    "purple": (132, 66, 178),
    "pink": (242, 132, 184),
    "white": (243, 243, 241),
    "black": (26, 26, 30),
}
_PALETTE = tuple(COLOURS.values())

TEST_SHARE_OF_DIGITS = 0.25
TRAIN_SHARE_OF_PHOTO = 0.6
CROP = (64, 200)  # side of a background, in pixels of the photograph
_PAD, _FINE = 2, 4  # a glyph: 8x8 pixels of ink, an empty rim, four times finer
_INK = [255 * (level >= 128) for level in range(256)]  # a pixel is ink if at least half of it is covered
_STEEP = (1.5, 3.0, 6.0, 12.0)  # sharpness of the pen's edge, each for digits twice as high as the one before


@dataclass(frozen=True)
class Material:
    """What the scenes of one split are made of. The two splits share nothing.

    Attributes:
        glyphs: handwritten digits, each as masks with ever sharper edges.
        labels: their classes.
        numbers: their indices in scikit-learn's ``load_digits``.
        classes: for each class, the indices of its digits in ``glyphs``.
        dark: for each digit, the positions (x, y) of the ink in its 8x8 pixels.
        photos: photographs, each at full and at half size.
        region: the part (left, right) of every photograph to crop from.
    """

    glyphs: list[tuple["Image.Image", ...]]
    labels: list[int]
    numbers: list[int]
    classes: list[list[int]]
    dark: list[list[tuple[int, int]]]
    photos: list[tuple["Image.Image", "Image.Image"]]
    region: tuple[int, int]


@functools.lru_cache(maxsize=2)
def material(split: str) -> Material:
    """Load scikit-learn's handwritten digits and photographs, and return the part that belongs to ``split``.

    The digits are ordered by writer, so splitting them at one index gives the test split mostly writers that are not in
    the training split. The photographs are split at a vertical line.
    """
    datasets, image = need("sklearn.datasets", extra="train"), need("PIL.Image", extra="train")
    digits = datasets.load_digits()
    cut = round(len(digits.target) * (1 - TEST_SHARE_OF_DIGITS))
    mine = np.arange(cut) if split == "train" else np.arange(cut, len(digits.target))
    greys: NDArray[np.float32] = digits.images[mine].astype(np.float32)
    side = (8 + 2 * _PAD) * _FINE
    fields = np.stack([image.fromarray(np.pad(grey / 16, _PAD)).resize((side, side), 3) for grey in greys])  # bicubic
    masks = [(((fields - 0.5) * steep + 0.5).clip(0, 1) * 255).round().astype(np.uint8) for steep in _STEEP]
    labels = digits.target[mine]
    photos = [image.fromarray(photo) for photo in datasets.load_sample_images().images]
    edge = round(photos[0].width * TRAIN_SHARE_OF_PHOTO)
    return Material(
        [tuple(image.fromarray(mask) for mask in same) for same in zip(*masks, strict=True)],
        labels.tolist(),
        mine.tolist(),
        [np.flatnonzero(labels == label).tolist() for label in range(10)],
        [[(int(x), int(y)) for y, x in np.argwhere(grey >= 8)] for grey in greys],
        [(photo, photo.reduce(2)) for photo in photos],
        (0, edge) if split == "train" else (edge, photos[0].width),
    )


@dataclass(frozen=True)
class Pose:
    """How a digit is drawn: height in pixels, turn in degrees, stretch in width."""

    height: float
    degrees: float
    stretch: float

    @property
    def side(self) -> int:
        """Side of a square that the digit fits into."""
        turn = math.radians(self.degrees)
        return math.ceil(self.height * (math.cos(turn) + abs(math.sin(turn))) * max(1.0, self.stretch)) + 2

    def matrix(self) -> tuple[float, float, float, float]:
        """Return the linear map from offsets on the canvas to offsets in the 8x8 pixels of the digit."""
        turn, zoom = math.radians(self.degrees), self.height / 8
        cos, sin = math.cos(turn) / zoom, math.sin(turn) / zoom
        return cos / self.stretch, sin / self.stretch, -sin, cos


def draw(glyph: tuple["Image.Image", ...], pose: Pose) -> "Image.Image":
    """Draw a digit on a canvas of side ``pose.side``: a mask (mode L) that says how much of each pixel is covered.

    The 8x8 greys are interpolated to a smooth field, and its contour at one half is the outline. So a digit is sharp at
    every size.
    """
    from PIL import Image

    side = pose.side
    a, b, d, e = (_FINE * value for value in pose.matrix())
    middle, centre = side / 2, (4 + _PAD) * _FINE
    matrix = (a, b, centre - (a + b) * middle, d, e, centre - (d + e) * middle)
    level = min(len(_STEEP) - 1, max(0, math.ceil(math.log2(pose.height / 16))))
    return glyph[level].transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def cut(glyph: tuple["Image.Image", ...], pose: Pose, at: tuple[int, int], width: int, height: int) -> "Image.Image":
    """Draw a digit and cut out a window around pixel ``at`` of its 8x8 pixels: a mask."""
    mask = draw(glyph, pose)
    a, b, d, e = pose.matrix()
    u, v = at[0] - 3.5, at[1] - 3.5
    x = (e * u - b * v) / (a * e - b * d) + pose.side / 2
    y = (a * v - d * u) / (a * e - b * d) + pose.side / 2
    left, top, right, bottom = mask.getbbox() or (0, 0, pose.side, pose.side)
    x1 = min(max(round(x - width / 2), left), max(left, right - width))
    y1 = min(max(round(y - height / 2), top), max(top, bottom - height))
    return mask.crop((x1, y1, min(x1 + width, right), min(y1 + height, bottom)))


def inked(mask: "Image.Image") -> Box:
    """Return the smallest box (x1, y1, x2, y2; x2, y2 exclusive) around the pixels that are covered by half or more."""
    return mask.point(_INK).getbbox() or (0, 0, mask.width, mask.height)


def background(made_of: Material, size: int, rng: np.random.Generator) -> "Image.Image":
    """Cut a random square out of a random photograph, mirror and darken it at random: an RGB image of side ``size``."""
    from PIL import Image

    whole, half = made_of.photos[int(rng.integers(len(made_of.photos)))]
    left, right = made_of.region
    side = int(rng.integers(CROP[0] // 2, CROP[1] // 2 + 1))  # in pixels of the half
    x, y = int(rng.integers(left // 2, right // 2 - side + 1)), int(rng.integers(0, whole.height // 2 - side + 1))
    photo = half
    if side < size:
        photo, x, y, side = whole, 2 * x, 2 * y, 2 * side
    crop = photo.crop((x, y, x + side, y + side)).resize((size, size), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return Image.blend(crop, Image.new("RGB", crop.size), 0.25 - 0.35 * rng.random())


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Return how different two RGB colours look, from 0 (equal) to 1 (black and white).

    Example:
        >>> round(distance(COLOURS["red"], COLOURS["orange"]), 2)
        0.27
    """
    r, g, b = one[0] - other[0], one[1] - other[1], one[2] - other[2]
    return math.sqrt(0.30 * r * r + 0.59 * g * g + 0.11 * b * b) / 255


def paint(scene: "Image.Image", mask: "Image.Image", x: int, y: int, contrast: float, rng: np.random.Generator) -> int:
    """Paint ``mask`` on ``scene``, in place, with its corner at (x, y), in a colour that stands out; return its index.

    The colour is the first, in random order, that is at least ``contrast`` away from the mean colour below the mask, or
    else the one that is farthest away.
    """
    from PIL import Image

    under = scene.crop((x, y, x + mask.width, y + mask.height))
    below: Sequence[float] = under.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[assignment]
    order = rng.permutation(len(_PALETTE)).tolist()
    for which in order:
        if distance(_PALETTE[which], below) >= contrast:
            break
    else:
        which = max(order, key=lambda one: distance(_PALETTE[one], below))
    red, green, blue = (
        value + change for value, change in zip(_PALETTE[which], rng.integers(-14, 13, 3).tolist(), strict=True)
    )
    scene.paste((red, green, blue), (x, y), mask)
    return int(which)


def place(sizes: list[tuple[int, int]], side: int, rng: np.random.Generator) -> list[tuple[int, int]] | None:
    """Find corners (x, y) for boxes of ``sizes`` (width, height) that do not touch; None if 40 tries fail for one box.

    Example:
        >>> place([(8, 8), (5, 8)], 48, np.random.default_rng(0))
        [(34, 26), (22, 11)]
    """
    corners: list[tuple[int, int]] = []
    for width, height in sizes:
        for _ in range(40):
            x, y = int(rng.integers(side - width + 1)), int(rng.integers(side - height + 1))
            if all(
                x > u + w or u > x + width or y > v + h or v > y + height
                for (u, v), (w, h) in zip(corners, sizes, strict=False)
            ):
                corners.append((x, y))
                break
        else:
            return None
    return corners
