"""Which images a process sees when, and what is random in a step: pure functions of seed, epoch, step and rank."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from torch.utils.data import DataLoader

from ..tasks import Batch, Dataset, Stream


def mix(*parts: int | str) -> int:
    """Return a seed of 63 bits that depends on every part and on their order.

    Example:
        >>> mix("dropout", 0, 1) == mix("dropout", 0, 1), mix("dropout", 0, 1) == mix("dropout", 1, 0)
        (True, False)
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Shard:
    """One process's share of each batch: every ``processes``-th image, starting with its own rank.

    A batch with fewer images than processes gives some processes an empty list, so that all stay in step.
    """

    def __init__(self, batches: Iterable[Sequence[int]], rank: int = 0, processes: int = 1) -> None:
        self.batches = batches
        self.rank = rank
        self.processes = processes

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            yield list(batch[self.rank :: self.processes])


class Loaded(NamedTuple):
    """A batch, None where there is nothing left of it, and the images newly found to be unreadable."""

    batch: Batch | None
    broken: list[Any]

    @property
    def size(self) -> int:
        """How many images the batch has left."""
        return 0 if self.batch is None else len(self.batch["index"])


class _Whole:
    """A data set as torch's loader wants it: whole batches, also empty ones, with newly found broken images."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.known = len(getattr(dataset, "broken", ()))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[int]) -> Loaded:
        batch = self.dataset.__getitems__(indices) if indices else None
        broken = list(getattr(self.dataset, "broken", ()))
        fresh, self.known = broken[self.known :], len(broken)
        return Loaded(batch, fresh)


def as_it_is(batch: Any) -> Any:
    """Collate nothing: the data set already gives whole batches."""
    return batch


def loader(dataset: Dataset, batches: Shard, workers: int, *, pin: bool = False) -> Iterator[Loaded]:
    """Yield the batches of ``batches`` in order, loaded here or by ``workers`` processes."""
    whole = _Whole(dataset)
    if workers == 0 and not pin:  # what torch's loader would do, without its cost a step
        return (whole.__getitems__(indices) for indices in batches)
    return iter(
        DataLoader(
            whole,  # type: ignore[arg-type]
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=as_it_is,
            pin_memory=pin,
        )
    )


def stream_loader(stream: Stream, workers: int, *, pin: bool = False) -> Iterator[Loaded]:
    """Yield the batches of a stream in order, loaded here or by as many of ``workers`` processes as can share it."""
    batches: Iterable[Batch] = stream
    if workers or pin:
        batches = DataLoader(
            stream,  # type: ignore[arg-type]
            batch_size=None,
            num_workers=stream.workers(workers),
            collate_fn=as_it_is,
            pin_memory=pin,
        )
    return (Loaded(batch, []) for batch in batches)
