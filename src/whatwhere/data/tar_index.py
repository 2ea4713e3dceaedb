"""Where the images lie in tar files of WebDataset's layout."""

import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from ..errors import WhatwhereError
from .cache import Arrays, cache_file, cached
from .image import SUFFIXES

_IMAGES = frozenset(suffix.removeprefix(".") for suffix in SUFFIXES)
_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)  # key and suffix, as webdataset takes them apart
_META = re.compile(r"__[^/]*__($|/)")  # members that webdataset leaves out


@dataclass
class TarIndex:
    """Where the images of a split lie: one row an image, in the order of the shards and of the images in them."""

    shards: list[Path]
    keys: NDArray[Any]
    """The names of the samples, bytes."""
    shard: NDArray[np.int64]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    labels: NDArray[np.int64]

    def only(self, keep: NDArray[np.int64]) -> "TarIndex":
        """Return the rows ``keep``."""
        rows = (array[keep] for array in (self.keys, self.shard, self.offset, self.size, self.labels))
        return TarIndex(self.shards, *rows)

    def contents(self) -> list[tuple[int, NDArray[Any]]]:
        """Return for each shard the number of its first image, and the keys of its images."""
        starts = np.searchsorted(self.shard, np.arange(len(self.shards) + 1)).tolist()
        return [(first, self.keys[first:end]) for first, end in pairwise(starts)]


def index_shards(shards: list[Path], *, progress: bool = True) -> TarIndex:
    """Return where the images of tar files lie; from the cache, if the files are those of then.

    Only the headers in the files and the ``.cls`` members are read.

    Args:
        shards: the files.
        progress: show a progress bar.

    Raises:
        WhatwhereError: a file is no tar file without compression or is cut off, or a sample has no image or no class,
            or is there twice.
    """
    stats = [path.stat() for path in shards]
    state = [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in zip(shards, stats, strict=True)]

    def make() -> Arrays:
        parts = []
        with ThreadPoolExecutor(min(8, len(shards))) as pool:
            for part in track(
                pool.map(_scan, shards),
                f"indexing {len(shards)} tar files",
                total=len(shards),
                console=Console(stderr=True),
                transient=True,
                disable=not progress,
            ):
                parts.append(part)
        counts = [len(part["keys"]) for part in parts]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {**joined, "shard": np.repeat(np.arange(len(shards)), counts)}

    names = {"keys", "shard", "offset", "size", "labels"}
    arrays = cached(cache_file("shards", {"format": 1, "shards": state}), make, lambda a: a.keys() == names)
    return TarIndex(shards, **arrays)


def _scan(shard: Path) -> Arrays:
    """Return the keys, offsets, sizes and labels of the samples of a tar file."""
    samples = list(_samples(shard))
    keys = [key for key, _, _, _ in samples]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise WhatwhereError(f"{shard} has two samples {twice}, apart from each other")
    numbers = np.array([numbers for _, *numbers in samples], dtype=np.int64).reshape(-1, 3)
    encoded = np.array([key.encode(errors="surrogateescape") for key in keys], dtype=np.bytes_)
    return {"keys": encoded, "offset": numbers[:, 0], "size": numbers[:, 1], "labels": numbers[:, 2]}


def _samples(shard: Path) -> Iterator[tuple[str, int, int, int]]:
    """Yield key, offset and size of the image, and the label, of each sample of a tar file."""
    with shard.open("rb") as raw:
        length = shard.stat().st_size
        key, image, label = "", None, None
        for name, offset, size in _members(shard):
            if offset + size > length:
                raise WhatwhereError(f"{shard} is cut off in {name}")
            here, suffix = _NAME.fullmatch(name).groups()  # type: ignore[union-attr]  # _members gives no others
            if key and here != key:
                yield _whole(shard, key, image, label)
                image, label = None, None
            key = here
            if suffix.lower() in _IMAGES and image is None:
                image = (offset, size)
            elif suffix.lower() == "cls":
                raw.seek(offset)
                label = raw.read(size)
        if key:
            yield _whole(shard, key, image, label)


def _members(shard: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of each file in a tar file that belongs to a sample, as WebDataset sees it."""
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isreg() and _NAME.fullmatch(member.name) and not _META.match(member.name):
                    yield member.name, member.offset_data, member.size
    except (tarfile.TarError, EOFError) as error:
        raise WhatwhereError(f"{shard} cannot be read as a tar file without compression: {error}") from error


def _whole(shard: Path, key: str, image: tuple[int, int] | None, label: bytes | None) -> tuple[str, int, int, int]:
    if image is None or label is None:
        missing = "image" if image is None else ".cls file with its class"
        raise WhatwhereError(f"{shard}: the sample {key} has no {missing}")
    if not label.strip().isdigit():
        raise WhatwhereError(f"{shard}: {key}.cls holds {label[:40]!r}, and a whole number from 0 is needed")
    return key, *image, int(label)
