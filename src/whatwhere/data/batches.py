"""Which images come in which batch: a pure function of seed and epoch."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from ..errors import WhatwhereError


class EpochBatches(Sampler[list[int]]):
    """Batches of the indices 0 … ``length - 1``, in an order that follows from ``(seed, epoch)`` alone.

    No state is kept between epochs and no global generator is read. A resumed run therefore gets the batches that the
    first run would have got: ``start`` skips those that are done. For a :class:`~torch.utils.data.DataLoader`, as its
    ``batch_sampler``, with a ``collate_fn`` that returns its argument.

    Args:
        length: number of images.
        batch_size: images in a batch; the last batch of an epoch may be smaller.
        seed: 0 or more.
        epoch: 0 or more; :meth:`set_epoch` changes it.
        start: how many batches of this epoch to skip.
        shuffle: False gives the order 0, 1, 2, …
        drop_last: leave out the last batch where it is smaller.
        lengths: of the items; a batch then has items of one length, or of neighbouring ones where they do not fill it,
            and ``drop_last`` leaves out items at random. Without ``shuffle`` they change nothing.

    Raises:
        WhatwhereError: a number out of range, ``drop_last`` where not even one batch is full, or more or fewer
            ``lengths`` than items.

    Example:
        >>> list(EpochBatches(5, 2, shuffle=False, start=1))
        [[2, 3], [4]]
        >>> lengths = [9, 4, 9, 4]
        >>> [[lengths[i] for i in batch] for batch in EpochBatches(4, 2, lengths=lengths)]
        [[9, 9], [4, 4]]
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        lengths: Sequence[int] | None = None,
    ) -> None:
        for name, value, least in (("length", length, 0), ("batch_size", batch_size, 1), ("seed", seed, 0)):
            if value < least:
                raise WhatwhereError(f"{name} must be at least {least}, got {value}")
        if drop_last and 0 < length < batch_size:
            raise WhatwhereError(
                f"{length} images do not fill a batch of {batch_size}, and drop_last=True leaves out batches that are "
                "not full: take a smaller batch, more images, or drop_last=False"
            )
        if lengths is not None and len(lengths) != length:
            raise WhatwhereError(f"lengths must have one number for each of the {length} items, it has {len(lengths)}")
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.lengths = None if lengths is None else np.asarray(lengths)
        self.set_epoch(epoch, start)

    @property
    def total(self) -> int:
        """Number of batches in a whole epoch, with those that ``start`` skips."""
        return self.length // self.batch_size if self.drop_last else -(-self.length // self.batch_size)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Go to another epoch and skip its first ``start`` batches."""
        if epoch < 0 or not 0 <= start <= self.total:
            raise WhatwhereError(
                f"epoch must be at least 0 and start from 0 to {self.total} (the batches of an epoch), got {epoch} and "
                f"{start}"
            )
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[list[int]]:
        order, batches = np.arange(self.length), np.arange(self.total)
        if self.shuffle:
            rng = np.random.default_rng((self.seed, self.epoch))
            order = rng.permutation(self.length)
            if self.lengths is not None:
                order = order[: self.total * self.batch_size]  # what is left out is left out at random
                order = order[np.argsort(self.lengths[order], kind="stable")]
                batches = rng.permutation(self.total)
        for batch in batches[self.start :].tolist():
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()
