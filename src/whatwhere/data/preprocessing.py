"""What a network expects of its images: their size, and how their values are normalised."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WhatwhereError
from ..graph.wrappers import unwrap
from .image import read_image

SIZE = 224
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@dataclass(frozen=True)
class Preprocessing:
    r"""Image → pixels → input of a network; the same for training, evaluation and :func:`whatwhere.look`.

    .. math:: x = (v / 255 - mean) / std

    Attributes:
        size: side of the square images, in pixels.
        mean: of R, G and B, for values in [0, 1].
        std: as ``mean``.

    Raises:
        WhatwhereError: a size below 1, not three numbers each, or a std that is not above 0.

    Example:
        >>> import torch
        >>> preprocessing = Preprocessing(size=32)
        >>> pixels = preprocessing.image(torch.rand(3, 40, 64))
        >>> pixels.dtype, preprocessing.normalise(pixels[None]).shape
        (torch.uint8, torch.Size([1, 3, 32, 32]))
    """

    size: int = SIZE
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise WhatwhereError(f"size must be a whole number of pixels, at least 1, got {self.size!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise WhatwhereError(
                f"mean and std need a number for each of R, G, B, std above 0: got {self.mean} and {self.std}"
            )
        for name in ("mean", "std"):  # lists too, as JSON gives them
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))

    @classmethod
    def of(
        cls,
        model: nn.Module | Mapping[str, Any],
        *,
        size: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> "Preprocessing":
        """Return what ``model`` expects.

        What is not given comes from timm's configuration of the model's pretrained weights, which every network of
        timm's carries, whether the weights were loaded or not. A network without one gets 224, 0.5 and 0.25.

        Args:
            model: a network, or such a configuration itself (``input_size``, ``mean``, ``std``).
            size: in place of that of the configuration.
            mean: in place of that of the configuration.
            std: in place of that of the configuration.

        Example:
            >>> import torch
            >>> Preprocessing.of(torch.nn.Conv2d(3, 8, 3), size=48)
            Preprocessing(size=48, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        """
        config = model if isinstance(model, Mapping) else getattr(unwrap(model), "pretrained_cfg", None)
        config = config if isinstance(config, Mapping) else {}
        return cls(
            (config.get("input_size") or (3, SIZE, SIZE))[-1] if size is None else size,
            tuple(config.get("mean") or MEAN if mean is None else mean),
            tuple(config.get("std") or STD if std is None else std),
        )

    def image(self, image: Any) -> Tensor:
        """Return one image, in any form that :func:`read_image` takes, as ``uint8 (3, size, size)``."""
        return read_image(image, self.size)

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise a batch ``(B, 3, H, W)`` of values from 0 to 255: ``uint8`` to ``float32``, on its own device."""
        shift, scale = _shift_and_scale(self.mean, self.std, images.device)
        return images.float().sub_(shift).mul_(scale) if images.dtype == torch.uint8 else (images - shift) * scale


@functools.lru_cache(maxsize=64)
def _shift_and_scale(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        shift, scale = (torch.tensor(values).view(1, 3, 1, 1).to(device) for values in (mean, std))
        return 255.0 * shift, 1.0 / (255.0 * scale)
