"""How far two lists of outputs are apart."""

import math
from collections.abc import Sequence

from torch import Tensor


def difference(got: Sequence[Tensor], want: Sequence[Tensor]) -> float:
    """Return the largest difference between outputs, as a share of the largest value that each should have.

    Infinity where their number or shapes differ, or where one has numbers that are not finite.

    Example:
        >>> import torch
        >>> from whatwhere.graph import difference
        >>> difference([torch.tensor([1.0, 4.5])], [torch.tensor([1.0, 5.0])])
        0.1
    """
    if [g.shape for g in got] != [w.shape for w in want]:
        return math.inf
    largest = 0.0
    for one, other in zip(got, want, strict=True):
        if other.numel() == 0:
            continue
        scale = float(other.double().abs().max()) or 1.0
        gap = float((one.double() - other.double()).abs().max())
        if not math.isfinite(gap) or not math.isfinite(scale):
            return math.inf
        largest = max(largest, gap / scale)
    return largest
