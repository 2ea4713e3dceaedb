"""Averages over windows, as products with matrices: exported graphs with dynamic sides can have them."""

import torch
from torch import Tensor


def adaptive(inputs: int, outputs: int, like: Tensor) -> Tensor:
    """Return which inputs are in each of ``outputs`` windows that cover them evenly, ``(outputs, inputs)`` of 0 and 1.

    The windows are those of :class:`torch.nn.AdaptiveAvgPool1d`. There may be more of them than inputs.

    Example:
        >>> adaptive(5, 2, torch.zeros(()))
        tensor([[1., 1., 1., 0., 0.],
                [0., 0., 1., 1., 1.]])
    """
    number = torch.arange(outputs, device=like.device)[:, None]
    place = torch.arange(inputs, device=like.device)
    return ((place * outputs < (number + 1) * inputs) & ((place + 1) * outputs > number * inputs)).to(like.dtype)


def strided(inputs: int, size: int, like: Tensor) -> Tensor:
    """Return which inputs are in each window of ``size`` side by side, ``(windows, inputs)`` of 0 and 1.

    Inputs that fill no window are left out; fewer inputs than ``size`` are one window.

    Example:
        >>> strided(5, 2, torch.zeros(()))
        tensor([[1., 1., 0., 0., 0.],
                [0., 0., 1., 1., 0.]])
        >>> strided(3, 7, torch.zeros(()))
        tensor([[1., 1., 1.]])
    """
    windows = torch.sym_max(inputs // size, 1)
    number = torch.arange(windows, device=like.device)[:, None]
    place = torch.arange(inputs, device=like.device)
    return (place // size == number).to(like.dtype)


def average(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the averages of a map over windows: ``(N, C, H, W)`` → ``(N, C, windows of rows, windows of columns)``.

    Large windows: the weights are divided first, so that float16 cannot overflow.
    """
    rows, columns = (windows / windows.sum(1, keepdim=True) for windows in (rows, columns))
    return rows @ (x @ columns.mT)


def average_few(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the same for windows of few values: divided last, so that the average of ones is exactly 1."""
    return rows @ (x @ columns.mT) / (rows.sum(1)[:, None] * columns.sum(1))
