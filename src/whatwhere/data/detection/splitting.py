"""Which images are drawn, where a data set does not say or a limit leaves some out."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def split_evenly(items: Sequence[T], seed: int) -> tuple[list[T], list[T]]:
    """Return four fifths of the items and the other fifth, drawn by ``seed``, both in their order.

    Example:
        >>> split_evenly(["a", "b", "c", "d", "e"], seed=0)
        (['b', 'c', 'd', 'e'], ['a'])
    """
    chosen = np.random.default_rng((seed, len(items))).permutation(len(items))[: max(1, len(items) // 5)]
    other = set(chosen.tolist())
    return [one for i, one in enumerate(items) if i not in other], [items[i] for i in sorted(other)]


def at_most(items: Sequence[T], limit: int | None, seed: int) -> list[T]:
    """Return ``limit`` of the items, drawn by ``seed``, in their order; all of them where there is no limit.

    Example:
        >>> at_most(["a", "b", "c", "d"], 2, seed=0)
        ['b', 'c']
    """
    if limit is None or limit >= len(items):
        return list(items)
    chosen = np.random.default_rng((seed, len(items))).permutation(len(items))[:limit]
    return [items[i] for i in sorted(chosen.tolist())]
