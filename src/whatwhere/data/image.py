"""One image, in whatever form it comes, as RGB pixels: a square, or whole.

Training, evaluation and :func:`whatwhere.look` all read images here, so they all show a network the same pixels.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import WhatwhereError, need

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")
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
"""The file names that an image folder takes for images."""


class Unreadable(WhatwhereError):
    """An image that cannot be decoded. The message names the image, ``reason`` says only why.

    Example:
        >>> str(Unreadable("cat.jpg", "empty file"))
        'cat.jpg cannot be read: empty file'
    """

    def __init__(self, what: object, reason: str) -> None:
        super().__init__(f"{what} cannot be read: {reason}")
        self.what = what
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.reason)


def read_image(image: Any, size: int) -> Tensor:
    """Return ``image`` as RGB: the short side resized to ``size`` (bicubic, antialiased), the centre cut out.

    The EXIF orientation is respected, transparency is laid on white, 16-bit greys keep their upper 8 bits, and of an
    animation the first frame counts. A large JPEG file is decoded at a half, a quarter or an eighth of its size, though
    not below twice ``size``; a PIL image is taken as it is.

    Args:
        image: a path; the bytes of a file; a PIL image; an array ``uint8 (H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``; a
            tensor ``(3, H, W)``, ``(1, H, W)`` or with one more axis of length 1 in front, ``uint8`` or floating in
            [0, 1]. Floating values are multiplied by 255 and rounded.
        size: side of the square in pixels.

    Returns:
        ``uint8 (3, size, size)``.

    Raises:
        Unreadable: the file is missing, a folder, empty, cut off or damaged, or no image.
        WhatwhereError: none of the forms above.

    Example:
        >>> import torch
        >>> read_image(torch.rand(3, 40, 64), 32).shape
        torch.Size([3, 32, 32])
    """

    def pixels(opened: "Image.Image", from_file: bool) -> Tensor:
        if from_file:
            opened.draft(None, (2 * size, 2 * size))  # lets a large JPEG decode at a half, a quarter or an eighth
        return _pixels(square(to_rgb(opened), size))

    return _opened(image, pixels)


def read_fitted(image: Any, size: int, *, upright: bool = True) -> tuple[Tensor, tuple[int, int]]:
    """Return the whole of ``image`` as RGB, its longest side resized to ``size`` (bicubic, antialiased), and its size.

    Small images are enlarged. Everything else is as in :func:`read_image`.

    Args:
        image: as for :func:`read_image`.
        size: longest side of the result in pixels, see :func:`fit`.
        upright: respect the EXIF orientation; False takes the pixels as they are stored.

    Returns:
        ``uint8 (3, h, w)``, and the (height, width) of the image before it was resized.

    Raises:
        Unreadable: as :func:`read_image`.
        WhatwhereError: as :func:`read_image`.

    Example:
        >>> import torch
        >>> pixels, size = read_fitted(torch.rand(3, 40, 64), 32)
        >>> pixels.shape, size
        (torch.Size([3, 20, 32]), (40, 64))
    """

    def pixels(opened: "Image.Image", from_file: bool) -> tuple[Tensor, tuple[int, int]]:
        from PIL import Image

        width, height = _sides(opened, upright)
        if from_file:
            stored = fit(*opened.size, size)
            opened.draft(None, (2 * stored[0], 2 * stored[1]))
        rgb = to_rgb(opened, upright=upright)
        return _pixels(rgb.resize(fit(width, height, size), Image.Resampling.BICUBIC)), (height, width)

    return _opened(image, pixels)


def fit(width: int, height: int, size: int) -> tuple[int, int]:
    """Return (width, height) with the longest side ``size`` and nearly the same aspect ratio, at least 1 × 1.

    Example:
        >>> fit(640, 480, 320), fit(3, 1000, 100)
        ((320, 240), (1, 100))
    """
    longest = max(width, height)
    return max(1, round(width * size / longest)), max(1, round(height * size / longest))


def _opened(image: Any, use: Callable[["Image.Image", bool], T]) -> T:
    """Return ``use(PIL image, whether it comes from a file)`` for an image in any form."""
    if isinstance(image, (str, os.PathLike, bytes)):
        file = image if isinstance(image, bytes) else Path(image)
        with _open(file) as opened:
            try:
                return use(opened, True)
            except Exception as error:  # decoders raise nearly anything on bad bytes
                raise Unreadable(_what(file), _reason(error)) from error
    if isinstance(image, Tensor):
        image = _array(image)
    pil = need("PIL.Image", extra="train")
    if isinstance(image, np.ndarray):
        flat = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
        if image.dtype != np.uint8 or not flat or not image.size:
            raise WhatwhereError(
                f"an array of shape (H, W, 3) and type uint8 is needed, got {image.shape} of {image.dtype}; "
                f"give floating images in [0, 1] as tensors (3, H, W)"
            )
        image = pil.fromarray(np.ascontiguousarray(image))
    if not isinstance(image, pil.Image):
        raise WhatwhereError(f"a path, a PIL image, an array or a tensor is needed, got {type(image).__name__}")
    try:
        return use(image, False)
    except Exception as error:  # a PIL image may be decoded only now
        raise Unreadable(getattr(image, "filename", "") or "the image", _reason(error)) from error


def to_rgb(image: "Image.Image", *, upright: bool = True) -> "Image.Image":
    """Return a PIL image upright and in RGB: EXIF orientation applied, transparency on white, upper 8 of 16 bits.

    Example:
        >>> from PIL import Image
        >>> to_rgb(Image.new("LA", (2, 2), (0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    from PIL import Image, ImageOps

    if upright:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel, or 32 of which 16 are used
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    return image.convert("RGB")


def square(image: "Image.Image", size: int) -> "Image.Image":
    """Resize the centre square of a PIL image, as large as fits, to ``size`` × ``size``.

    Example:
        >>> from PIL import Image
        >>> square(Image.new("RGB", (60, 40)), 32).size
        (32, 32)
    """
    from PIL import Image

    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def read_sides(image: Any, *, upright: bool = True) -> tuple[int, int]:
    """Return (width, height) of an image; where it is a file, from its header alone.

    Args:
        image: as for :func:`read_image`.
        upright: respect the EXIF orientation; False gives the sides as they are stored.

    Raises:
        Unreadable: as :func:`read_image`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (60, 40)).save(Path(folder) / "a.png")
        ...     read_sides(Path(folder) / "a.png")
        (60, 40)
    """
    return _opened(image, lambda opened, _: _sides(opened, upright))


def _sides(image: "Image.Image", upright: bool) -> tuple[int, int]:
    turned = upright and image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 lie on their side
    return (image.height, image.width) if turned else image.size


def _open(file: Path | bytes) -> "Image.Image":
    pil = need("PIL.Image", extra="train")
    if isinstance(file, Path) and file.is_dir():
        raise Unreadable(file, "it is a folder")
    try:
        opened: Image.Image = pil.open(io.BytesIO(file) if isinstance(file, bytes) else file)
    except FileNotFoundError:
        raise Unreadable(file, "there is no such file") from None
    except pil.UnidentifiedImageError:
        known = "not an image of a known kind (JPEG, PNG, WebP, …)"
        size = len(file) if isinstance(file, bytes) else file.stat().st_size
        raise Unreadable(_what(file), known if size else "empty file") from None
    except Exception as error:
        raise Unreadable(_what(file), _reason(error)) from error
    return opened


def _what(file: Path | bytes) -> object:
    return "the image" if isinstance(file, bytes) else file


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _pixels(image: "Image.Image") -> Tensor:
    """Return an RGB image as ``uint8 (3, H, W)``."""
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def _array(image: Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor ``(3, H, W)`` or ``(1, H, W)`` as ``uint8 (H, W, 3)``."""
    if image.dim() == 4 and len(image) == 1:
        image = image[0]
    if image.dim() != 3 or image.shape[0] not in (1, 3) or not image.numel():
        raise WhatwhereError(f"one image as a tensor (3, H, W) is needed, got {tuple(image.shape)}")
    image = image.detach().cpu()
    if image.is_floating_point():
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):
            raise WhatwhereError(
                f"a floating image must be in [0, 1] and not yet normalised, got values from {low:.3g} to {high:.3g}: "
                f"mean and std are applied here"
            )
        image = (image.float() * 255).round()
    elif image.dtype != torch.uint8:
        raise WhatwhereError(f"an image of uint8 or of a floating dtype is needed, got {image.dtype}")
    return image.to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).numpy()
