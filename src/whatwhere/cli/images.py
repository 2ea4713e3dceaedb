"""The images that a command is given."""

from pathlib import Path

from ..data.image import SUFFIXES
from ..errors import WhatwhereError


def image_files(images: tuple[Path, ...], command: str) -> list[Path]:
    """Return the files that are meant, those of folders in order."""
    paths: list[Path] = []
    for image in images:
        if image.is_dir():
            inside = sorted(path for path in image.iterdir() if path.suffix.lower() in SUFFIXES)
            if not inside:
                raise WhatwhereError(f"{image} has no file named like an image (*.jpg, *.png, …)")
            paths += inside
        else:
            paths.append(image)
    if not paths:
        raise WhatwhereError(f"give at least one image: whatwhere {command} IMAGE --run RUN")
    return paths
