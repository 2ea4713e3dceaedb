"""Which images of a dataset could not be read, known to all processes that load them."""

import warnings
from collections.abc import Callable, Sequence

import torch

from .dataset import Broken


class BrokenImages:
    """The images that could not be read so far. Where a worker of a ``DataLoader`` finds one, all processes know it.

    Args:
        names: of all images.
        reason: tries to read an image by its index and returns why it cannot be read; "" if it can be read.

    Example:
        >>> broken = BrokenImages(["a.jpg", "b.jpg"], lambda index: "empty file")
        >>> broken.add(1, "empty file", warn=False)
        >>> 1 in broken, broken.found()
        (True, [Broken(path='b.jpg', reason='empty file')])
    """

    def __init__(self, names: Sequence[str], reason: Callable[[int], str]) -> None:
        self._names = names
        self._reason = reason
        self._bad = torch.zeros(len(names), dtype=torch.bool)
        self._bad.share_memory_()  # type: ignore[no-untyped-call]  # one memory for all workers
        self._reasons: dict[int, str] = {}

    def __contains__(self, index: int) -> bool:
        return bool(self._bad[index])

    def add(self, index: int, reason: str, *, warn: bool = True) -> None:
        """Note that an image cannot be read, and warn of it."""
        self._bad[index] = True
        self._reasons[index] = reason
        if warn:
            warnings.warn(f"left out a broken image: {self._names[index]}: {reason}", RuntimeWarning, stacklevel=3)

    def found(self) -> list[Broken]:
        """Return all images that could not be read, with the reasons, in the order in which they were found."""
        for index in self._bad.nonzero().flatten().tolist():
            if index not in self._reasons:  # a worker found it
                self._reasons[index] = self._reason(index) or "could not be read at first"
        return [Broken(self._names[index], reason) for index, reason in self._reasons.items()]
