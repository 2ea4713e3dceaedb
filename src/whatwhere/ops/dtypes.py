"""The dtype of sums and gates."""

import torch
from torch import Tensor


def accumulator(x: Tensor) -> torch.dtype:
    """Return the dtype in which sums over a map are taken and the small tensors that go with it are kept: float32, or
    float64 for it.
    """
    return torch.float64 if x.dtype == torch.float64 else torch.float32
