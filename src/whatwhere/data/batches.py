"""Which images come in which batch: a pure function of seed and epoch."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from ..errors import WhatwhereError


class EpochBatches(Sampler[list[int]]):
    """Batches of numbers 0 … ``length - 1``, in an order that follows from ``(seed, epoch)`` alone.

    No state is kept between epochs and no global generator is read, so a resumed run sees what the first would have seen:
    ``start`` leaves out the batches already done. Give it to ``DataLoader(set, batch_sampler=…, collate_fn=identity)``.

    Args:
        length: how many images there are.
        batch_size: images a batch; the last batch of an epoch may be smaller.
        seed: 0 or more.
        epoch: 0 or more; :meth:`set_epoch` moves on.
        start: batches of this epoch to leave out.
        shuffle: False gives the order 0, 1, 2, …
        drop_last: leave out the smaller last batch.

    >>> list(EpochBatches(5, 2, shuffle=False, start=1))
    [[2, 3], [4]]
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
    ) -> None:
        for name, value, least in (("length", length, 0), ("batch_size", batch_size, 1), ("seed", seed, 0)):
            if value < least:
                raise WhatwhereError(f"{name} is {least} or more, not {value}")
        if drop_last and 0 < length < batch_size:
            raise WhatwhereError(
                f"{length} images do not fill one batch of {batch_size}, and drop_last leaves out what is not full: "
                "take a smaller batch, more images, or drop_last=False"
            )
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.set_epoch(epoch, start)

    @property
    def total(self) -> int:
        """Batches in a whole epoch, also those left out by ``start``."""
        return self.length // self.batch_size if self.drop_last else -(-self.length // self.batch_size)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Go to another epoch, leaving out its first ``start`` batches."""
        if epoch < 0 or not 0 <= start <= self.total:
            raise WhatwhereError(
                f"epoch is 0 or more and start 0 to {self.total} (all batches of an epoch), not {epoch} and {start}"
            )
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        for batch in range(self.start, self.total):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()
