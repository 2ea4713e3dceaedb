"""How many images of a dataset are used: checks of the numbers, and an even draw over the classes."""

import numpy as np
from numpy.typing import NDArray

from ..errors import WhatwhereError


def check_positive(**values: int | None) -> None:
    """Raise unless every value is None or at least 1.

    Raises:
        WhatwhereError: one is not; the message names it.

    Example:
        >>> check_positive(size=32, train_limit=None)
    """
    for name, value in values.items():
        if value is not None and value < 1:
            raise WhatwhereError(f"{name} must be at least 1, or None, got {value}")


def check_limits(classes: int, where: object, **limits: int | None) -> None:
    """Raise where a limit is less than the number of classes.

    Raises:
        WhatwhereError: such a limit; the message names it, and ``where`` the images are.

    Example:
        >>> check_limits(10, "images", train_limit=100, test_limit=None)
    """
    for name, limit in limits.items():
        if limit is not None and limit < classes:
            raise WhatwhereError(f"{name}={limit} leaves some of the {classes} classes of {where} without an image")


def evenly(labels: NDArray[np.int64], limit: int | None, seed: int) -> NDArray[np.int64]:
    """Draw ``limit`` indices, in order; the counts of the classes differ by at most 1 where they have enough images.

    Args:
        labels: of all images.
        limit: how many to draw; None for all.
        seed: of the draw.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1])
        >>> labels[evenly(labels, 4, seed=0)].tolist()
        [0, 0, 1, 1]
    """
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    rng = np.random.default_rng((seed, len(labels)))
    turn = np.empty(len(labels), dtype=np.int64)  # each image's position in the queue of its class
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        turn[rng.permutation(mine)] = np.arange(len(mine))
    return np.sort(np.lexsort((labels, turn))[:limit])
