"""Tar files in WebDataset's layout, for the tests."""

import io
import tarfile
from pathlib import Path

from .conftest import encoded, noise_image


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def write_shards(root: Path, split: str, counts: list[int], *, start: int = 0, broken: tuple[int, ...] = ()) -> Path:
    """Write a tar file for each count; image i has class i % 2 and the pixels of noise_image(start + i)."""
    root.mkdir(parents=True, exist_ok=True)
    number = 0
    for shard, count in enumerate(counts):
        with tarfile.open(root / f"tiny-{split}-{shard:04d}.tar", "w") as tar:
            for _ in range(count):
                data = b"torn" if number in broken else encoded(noise_image(start + number), "PNG")
                add(tar, f"{number:05d}.png", data)
                add(tar, f"{number:05d}.cls", str(number % 2).encode())
                add(tar, f"{number:05d}.json", b"{}")
                number += 1
    return root
