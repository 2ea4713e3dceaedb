"""One image file to a square of pixels."""

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
    """An image that cannot be decoded; the message says why."""


def decode(path: Path, size: int) -> NDArray[np.uint8]:
    """Read an image as RGB: the short side resized to ``size`` (bicubic, antialiased), the centre cut out.

    Returns ``uint8 (3, size, size)``. The orientation in EXIF is respected, transparency is laid on white, 16-bit greys keep
    their upper 8 bits, and of a moving image the first frame counts. Raises :class:`Unreadable` for anything that is not a whole
    image, also for one that is cut off.
    """
    pil = need("PIL.Image", extra="train")
    with _opened(path) as image:
        try:
            image.draft(None, (2 * size, 2 * size))  # lets a large JPEG decode at a half, a quarter or an eighth
            upright = need("PIL.ImageOps", extra="train").exif_transpose(image)
            colours = _rgb(upright)
            width, height = colours.size
            side = min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
            square = colours.resize((size, size), pil.Resampling.BICUBIC, box=box)
            return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))
        except Exception as error:  # decoders raise nearly anything on bad bytes
            raise Unreadable(_reason(error)) from error


def sides(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image as it is seen, from its header alone. Raises :class:`Unreadable`."""
    with _opened(path) as image:
        try:
            turned = image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 lie on their side
        except Exception as error:
            raise Unreadable(_reason(error)) from error
        return (image.height, image.width) if turned else image.size


def _opened(path: Path) -> "Image.Image":
    pil = need("PIL.Image", extra="train")
    try:
        opened: Image.Image = pil.open(path)
    except pil.UnidentifiedImageError:
        raise Unreadable("empty file" if not path.stat().st_size else "not an image that can be read") from None
    except Exception as error:
        raise Unreadable(_reason(error)) from error
    return opened


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits a pixel, or 32 of which 16 are used
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    return image.convert("RGB")
