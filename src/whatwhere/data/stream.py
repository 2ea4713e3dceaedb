"""Batches of tar files that are read from the start to the end, through timm's reader for WebDataset."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from ..errors import WhatwhereError, need
from .image import SUFFIXES
from .on_demand import OnDemandDataset, pixels_or_reason

READERS = 16
"""Readers of a process, at most; a power of two, so that a power of two of loading processes shares them evenly."""


class ShardStream(IterableDataset[dict[str, Tensor]]):
    """One process's batches of one epoch, as :class:`ImageDataset` gives them.

    The tar files are shuffled and dealt to the processes, and in each process to its readers: as many as there are
    files for each, at most 16, and a power of two. A reader reads its files one after the other into a buffer, from
    which images are drawn as soon as a quarter is full; where it has no file left it starts again. Batch k comes from
    reader k modulo their number. Which image comes when is therefore a function of the seed, the files, the rank and
    the number of processes; how many workers of a ``DataLoader`` read does not change it. With one process and one
    reader an image comes at most once; with more, a reader with fewer images than its share repeats some, and one with
    more leaves some out.

    Args:
        dataset: the images; those that cannot be read are reported there.
        shards: its tar files.
        contents: for each tar file the number of its first image in ``dataset``, and the keys of its images, in order.
        seed: of the epoch, the same in all processes.
        batch_size: images a batch of this process.
        batches: how many batches.
        rank: of this process.
        processes: how many share the files.
        shuffle: images in the buffer of a reader.

    Raises:
        WhatwhereError: there are fewer files than processes.
    """

    def __init__(
        self,
        dataset: OnDemandDataset,
        shards: Sequence[Path],
        contents: Sequence[tuple[int, NDArray[Any]]],
        *,
        seed: int,
        batch_size: int,
        batches: int,
        rank: int,
        processes: int,
        shuffle: int,
    ) -> None:
        super().__init__()
        if len(shards) < processes:
            raise WhatwhereError(
                f"{dataset.place} has {len(shards)} tar files to learn from, which {processes} processes cannot share: "
                "write more and smaller ones, or read them by index, with stream=false"
            )
        self.dataset = dataset
        self.contents = {str(path): content for path, content in zip(shards, contents, strict=True)}
        self.seed = seed
        self.batch_size = batch_size
        self.batches = batches
        self.rank = rank
        self.processes = processes
        self.shuffle = shuffle
        self.readers = power_of_two(min(READERS, len(shards) // processes))
        need("webdataset", extra="wds")
        need("timm.data.readers.reader_wds", extra="wds")  # now, not again in every worker of every epoch

    def workers(self, asked: int) -> int:
        """Return how many loading processes of ``asked`` can share the readers."""
        return power_of_two(min(asked, self.readers)) if asked else 0

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        mine = {reader: self._images(reader) for reader in range(first, self.readers, step)}
        for number in range(first, self.batches, step):
            images = mine[number % self.readers]
            found = [next(images) for _ in range(self.batch_size)]
            index = torch.tensor([i for i, _ in found], dtype=torch.int64)
            stacked = torch.stack([pixels for _, pixels in found])
            yield {"images": stacked, "labels": self.dataset.labels[index], "index": index}

    def _images(self, reader: int) -> Iterator[tuple[int, Tensor]]:
        """Yield the numbers and the pixels of a reader's images, without end."""
        known: dict[str, dict[str, int]] = {}
        missed = 0
        for sample in self._samples(reader):
            shard, key = sample["__url__"], sample["__key__"]
            if shard not in known:
                start, keys = self.contents[shard]
                known[shard] = {
                    name.decode(errors="surrogateescape"): start + i for i, name in enumerate(keys.tolist())
                }
            index = known[shard].get(key)
            if index is None:
                raise WhatwhereError(f"{shard} has changed since it was opened: {key} was not in it")
            pixels = "" if index in self.dataset.unread else pixels_or_reason(image_of(sample), self.dataset.size)
            if isinstance(pixels, Tensor):
                missed = 0
                yield index, pixels
                continue
            if pixels:
                self.dataset.unread.add(index, pixels)
            missed += 1
            if missed > len(self.dataset):
                break
        raise WhatwhereError(
            f"a reader of {self.dataset.place} finds no image that it can read in its tar files: write more evenly "
            "filled ones, or read them by index, with stream=false"
        )

    def _samples(self, reader: int) -> Iterator[dict[str, Any]]:
        """Yield the samples of a reader, without end: name, tar file and undecoded members."""
        webdataset = need("webdataset", extra="wds")
        module = need("timm.data.readers.reader_wds", extra="wds")
        with _unlogged(module.__name__):  # it misses an _info.json, whose content is known here
            timms = module.ReaderWds(
                root="",
                split="-.tar",
                is_training=True,
                num_samples=self.batches * self.batch_size * self.processes,
                batch_size=self.batch_size,
                seed=self.seed,
                sample_shuffle_size=self.shuffle,
                sample_initial_size=max(1, self.shuffle // 4),
            )
        timms.split_info.filenames = tuple(self.contents)
        timms.worker_info = self  # anything but None: it then takes the next numbers, not those of torch's worker
        timms.worker_seed = self.seed + 1 + self.rank * self.readers + reader
        timms.global_worker_id = self.rank * self.readers + reader
        timms.global_num_workers = self.processes * self.readers
        timms._lazy_init()
        # without its last two stages, decoding and renaming: images are read in one way everywhere
        yield from webdataset.DataPipeline(*timms.ds.pipeline[:-2]).repeat()


def image_of(sample: dict[str, Any]) -> bytes:
    """Return the bytes of the image in a sample: the first member that is named like one; b"" where there is none.

    Example:
        >>> image_of({"__key__": "cat", "cls": b"1", "jpg": b"pixels"})
        b'pixels'
    """
    return next((value for name, value in sample.items() if f".{name}" in SUFFIXES), b"")


def power_of_two(most: int) -> int:
    """Return the largest power of two that is not above ``most``, at least 1.

    Example:
        >>> [power_of_two(n) for n in (0, 1, 3, 8)]
        [1, 1, 2, 8]
    """
    return 1 << max(0, most.bit_length() - 1)


@contextmanager
def _unlogged(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
