"""What the frozen part of an encoder makes of all images of a data set, kept on the disk in half precision."""

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ...cost.measure import default_device
from ...data import CaptionDataset
from ...data.cache import cache_folder
from ...errors import WhatwhereError
from ...graph.guard import evaluation_mode
from ...networks.captioning.captioner import Captioner

BATCH = 32
FORMAT = 1  # to be raised when a change gives other values for the same key


class Values(NamedTuple):
    """Arrays ``float16`` with the images first, by name, plain and mirrored, and which images could be read."""

    plain: dict[str, Any]
    mirrored: dict[str, Any] | None
    readable: Any


def cached_values(
    model: Captioner,
    dataset: CaptionDataset,
    prepare: Callable[[Tensor], Tensor],
    *,
    mirrored: bool,
    progress: bool = True,
) -> Values:
    """Return what the frozen part of an encoder makes of every image, from the disk where it was made before.

    The files are named by a hash of the weights, of the operations, and of the images (path, size and time of the last
    change; the pixels themselves where they are in memory). The rows of images that cannot be read are zero.

    Args:
        model: the captioner; only its frozen part is used, and it is left as it was.
        dataset: the images.
        prepare: from ``uint8 (B, 3, S, S)`` to what the encoder takes.
        mirrored: whether the mirrored images are wanted too.
        progress: show a progress bar.

    Raises:
        WhatwhereError: none of the images can be read.
        OSError: the disk is full, or cannot be written.
    """
    folder = cache_folder() / f"encoded-{_key(model, dataset, prepare)[:24]}"
    with contextlib.ExitStack() as stack:
        for name, flip in (("plain", False), ("mirrored", True))[: 1 + mirrored]:
            if not (folder / name).is_dir():
                model_on = stack.enter_context(_on(model, default_device()))
                _write(folder / name, model_on, dataset, prepare, flip, progress)
    readable = np.load(folder / "plain" / "readable.npy")
    return Values(_open(folder / "plain"), _open(folder / "mirrored") if mirrored else None, readable)


def _write(
    target: Path,
    model: Captioner,
    dataset: CaptionDataset,
    prepare: Callable[[Tensor], Tensor],
    flip: bool,
    progress: bool,
) -> None:
    """Make the arrays in a folder beside the target, then give it its name: it is there whole or not at all."""
    count = len(dataset.images)
    temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    temporary.mkdir(parents=True)
    console = Console(stderr=True)
    device = next(model.parameters()).device
    try:
        readable = np.zeros(count, dtype=bool)
        title = f"encoding {count:,} images{', mirrored' if flip else ''}, once"
        hidden = not (progress and console.is_terminal)
        with contextlib.ExitStack() as stack:
            files: dict[str, _File] = {}
            for start in track(range(0, count, BATCH), title, console=console, transient=True, disable=hidden):
                numbers, images = _fetch(dataset, range(start, min(start + BATCH, count)))
                if not numbers:
                    continue
                batch = prepare(images.to(device))
                for name, value in model.frozen_values(batch.flip(-1) if flip else batch).items():
                    if name not in files:
                        stream = stack.enter_context((temporary / f"{name}.npy").open("wb"))
                        files[name] = _File(stream, (count, *value.shape[1:]))
                    files[name].write(numbers, value.clamp(-65504, 65504).half().cpu().numpy())
                readable[numbers] = True
            for file in files.values():
                file.fill(count)
        if not readable.any():
            found = dataset.broken[0]
            raise WhatwhereError(f"none of the {count} images can be read, such as {found.path}: {found.reason}")
        np.save(temporary / "readable.npy", readable)
        try:
            os.replace(temporary, target)
        except OSError:
            if not target.is_dir():  # otherwise another process has just made the same
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class _File:
    """An array ``float16`` that is written row by row. A full disk is an OSError, where a memory map would be the end
    of the process.
    """

    def __init__(self, stream: BinaryIO, shape: tuple[int, ...]) -> None:
        self.stream = stream
        self.row = shape[1:]
        self.done = 0
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)

    def write(self, numbers: Sequence[int], rows: Any) -> None:
        """Write the rows with these numbers, which are in order; those that are left out are zero."""
        for number, row in zip(numbers, rows, strict=True):
            self.fill(number)
            self.stream.write(row.tobytes())
            self.done += 1

    def fill(self, number: int) -> None:
        """Write zeros up to a row."""
        for _ in range(self.done, number):
            self.stream.write(np.zeros(self.row, np.float16).tobytes())
        self.done = number


def _fetch(dataset: CaptionDataset, numbers: Sequence[int]) -> tuple[list[int], Tensor]:
    found = [(number, pixels) for number in numbers if (pixels := dataset.fetch(number)) is not None]
    return [number for number, _ in found], torch.stack([pixels for _, pixels in found]) if found else torch.empty(0)


def _open(folder: Path) -> dict[str, Any]:
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy")) if path.stem != "readable"}


@contextlib.contextmanager
def _on(model: Captioner, device: torch.device) -> Iterator[Captioner]:
    before = next(model.parameters()).device
    try:
        with evaluation_mode(model.to(device)):
            yield model
    finally:
        model.to(before)


def _key(model: Captioner, dataset: CaptionDataset, prepare: Callable[[Tensor], Tensor]) -> str:
    digest = hashlib.sha256()
    frozen = model.cut.frozen
    used = {one.target for one in frozen.operations if one.kind in ("call_module", "get_attr")}
    for name, tensor in model.encoder.state_dict().items():
        if any(name == one or name.startswith(f"{one}.") for one in used):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    probe = torch.arange(3 * 8 * 8, dtype=torch.uint8).view(1, 3, 8, 8)
    digest.update(prepare(probe).numpy().tobytes())
    images = [_identity(image.path) for image in dataset.images]
    modules = [repr(model.encoder.get_submodule(one.target)) for one in frozen.operations if one.kind == "call_module"]
    operations = [str(one._replace(target=_name(one.target))) for one in frozen.operations]
    text = [FORMAT, operations, modules, frozen.gives, dataset.size, images]
    digest.update(json.dumps(text).encode())
    if dataset.pixels is not None and any(size is None for _, size, _ in images):
        digest.update(dataset.pixels.numpy().tobytes())
    return digest.hexdigest()


def _name(target: Any) -> str:
    """Return the name of a module, method or function: its text would have its address, other in each process."""
    return target if isinstance(target, str) else f"{target.__module__}.{getattr(target, '__qualname__', target)}"


def _identity(path: str) -> tuple[str, int | None, int | None]:
    try:
        found = os.stat(path)
    except OSError:
        return path, None, None
    return path, found.st_size, found.st_mtime_ns
