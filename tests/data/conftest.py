import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what the tests make out of the user's cache, and make it once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHATWHERE_CACHE", str(folder))
        yield folder


def noise_image(seed: int = 0, width: int = 40, height: int = 32) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an image folder: ``folder(train={"cat": 3}, val={"cat": 2})``."""

    def write(width: int = 40, height: int = 32, **splits: dict[str, int]) -> Path:
        for split, classes in splits.items():
            for label, (name, count) in enumerate(classes.items()):
                where = tmp_path / "images" / split / name
                where.mkdir(parents=True)
                for i in range(count):
                    noise_image(100 * label + i, width, height).save(where / f"{i:03d}.png")
        return tmp_path / "images"

    return write
