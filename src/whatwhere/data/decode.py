"""One picture file to a square of pixels."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import need

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset(
    (
        ".avif",
        ".bmp",
        ".gif",
        ".jfif",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    )
)


class Unreadable(Exception):
    """A picture that cannot be decoded; the message says why."""


def decode(path: Path, size: int) -> NDArray[np.uint8]:
    """Read a picture as RGB: the short side resized to ``size`` (bicubic, antialiased), the centre cut out.

    Returns ``uint8 (3, size, size)``. The orientation in EXIF is respected, transparency is laid on white, 16-bit greys keep
    their upper 8 bits, and of a moving picture the first frame counts. Raises :class:`Unreadable` for anything that is not a whole
    picture, also for one that is cut off.
    """
    image = need("PIL.Image", extra="train")
    with _opened(path) as picture:
        try:
            picture.draft(None, (2 * size, 2 * size))  # lets a large JPEG decode at a half, a quarter or an eighth
            upright = need("PIL.ImageOps", extra="train").exif_transpose(picture)
            colours = _rgb(upright)
            width, height = colours.size
            side = min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
            square = colours.resize((size, size), image.Resampling.BICUBIC, box=box)
            return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))
        except Exception as error:  # decoders raise nearly anything on bad bytes
            raise Unreadable(_reason(error)) from error


def sides(path: Path) -> tuple[int, int]:
    """Return (width, height) of a picture as it is seen, from its header alone. Raises :class:`Unreadable`."""
    with _opened(path) as picture:
        try:
            turned = picture.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 lie on their side
        except Exception as error:
            raise Unreadable(_reason(error)) from error
        return (picture.height, picture.width) if turned else picture.size


def _opened(path: Path) -> "Image.Image":
    image = need("PIL.Image", extra="train")
    try:
        opened: Image.Image = image.open(path)
    except image.UnidentifiedImageError:
        raise Unreadable("empty file" if not path.stat().st_size else "not a picture that can be read") from None
    except Exception as error:
        raise Unreadable(_reason(error)) from error
    return opened


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _rgb(picture: "Image.Image") -> "Image.Image":
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits a pixel, or 32 of which 16 are used
        return Image.fromarray((np.asarray(picture).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        layers = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    return picture.convert("RGB")
