"""One image, in whatever form it comes, as the network sees it."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import WhatwhereError, need


def read(image: Any) -> Any:
    """Return ``image`` as a PIL image in RGB, upright.

    Args:
        image: a path; a PIL image; a NumPy array ``uint8 (H, W, 3)`` or ``(H, W)``; a tensor ``(3, H, W)`` or ``(1, H, W)``, ``uint8`` or
            float in [0, 1].

    Raises:
        WhatwhereError: none of these, or a file that is missing, no image, or broken.
    """
    need("PIL", "look")
    from PIL import Image, ImageOps

    if isinstance(image, (str, os.PathLike)):
        return _file(Path(image))
    if isinstance(image, Tensor):
        image = _array(image)
    if isinstance(image, np.ndarray):
        flat = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
        if image.dtype != np.uint8 or not flat or not image.size:
            raise WhatwhereError(
                f"an array of shape (H, W, 3) and type uint8 is needed, got {image.shape} of {image.dtype}; "
                f"float images in [0, 1] are taken as tensors (3, H, W)"
            )
        return Image.fromarray(np.ascontiguousarray(image)).convert("RGB")
    if isinstance(image, Image.Image):
        try:
            return ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:  # decoded only now
            raise WhatwhereError(f"the image is broken: {error}") from error
    raise WhatwhereError(f"a path, a PIL image, an array or a tensor is needed, got {type(image).__name__}")


def square(image: Any, size: int) -> Any:
    """Resize the short side of a PIL image to ``size`` and cut the middle ``size`` × ``size`` out of it."""
    from PIL import Image

    width, height = image.size
    if min(width, height) != size:
        zoom = size / min(width, height)
        image = image.resize(
            (max(size, round(width * zoom)), max(size, round(height * zoom))), Image.Resampling.BICUBIC
        )
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def to_array(image: Any) -> np.ndarray[Any, Any]:
    """Return a PIL image in RGB as ``uint8 (H, W, 3)``."""
    return np.array(image)


def to_tensor(image: Any) -> Tensor:
    """Return a PIL image in RGB as ``float32 (3, H, W)`` in [0, 1]."""
    return torch.from_numpy(to_array(image)).permute(2, 0, 1).float() / 255


def _file(path: Path) -> Any:
    from PIL import Image, ImageOps, UnidentifiedImageError

    if path.is_dir():
        raise WhatwhereError(f"{path} is a folder: give one image")
    try:
        with Image.open(path) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except FileNotFoundError:
        raise WhatwhereError(f"there is no image at {path}") from None
    except UnidentifiedImageError:
        raise WhatwhereError(f"{path} is not an image that can be read (JPEG, PNG, WebP, …)") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise WhatwhereError(f"{path} cannot be read: {error}") from error


def _array(image: Tensor) -> np.ndarray[Any, Any]:
    if image.dim() == 4 and len(image) == 1:
        image = image[0]
    if image.dim() != 3 or image.shape[0] not in (1, 3) or not image.numel():
        raise WhatwhereError(f"one image as a tensor (3, H, W) is needed, got {tuple(image.shape)}")
    image = image.detach().cpu()
    if image.is_floating_point():
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):
            raise WhatwhereError(
                f"a float image must be in [0, 1] and not yet normalised, got values from {low:.3g} to {high:.3g}: "
                f"mean and std are applied here"
            )
        image = (image.float() * 255).round()
    elif image.dtype != torch.uint8:
        raise WhatwhereError(f"an image of uint8 or of a float type is needed, got {image.dtype}")
    return image.to(torch.uint8).expand(3, -1, -1).permute(1, 2, 0).numpy()
