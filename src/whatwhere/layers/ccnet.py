"""Criss-cross attention of CCNet."""

from typing import Any

import torch
from torch import Tensor

from .checks import check_count
from .key_map import KeyMap
from .projections import PROJECTIONS, ProjectedAttention, add_scaled
from .registry import register


def scalar_in_a_vector(name: str, tensor: Tensor) -> Tensor:
    """Return mmcv's γ, which has no axes, with one axis; other tensors as they are."""
    return tensor.reshape(1) if name == "gamma" else tensor


@register(
    "ccnet",
    title="criss-cross attention",
    paper="CCNet, ICCV 2019, arXiv 1811.11721",
    code="https://github.com/speedinghzl/CCNet",
    formula="x + γ softmax(qᵀk) v over the row and the column of each position; q, k, v = 1×1(x)",
    kind="residual",
    key_maps=(
        # mmcv's first: "gamma" of the official names would take "gamma.scale" for a tensor of a submodule.
        KeyMap(
            "mmcv's CrissCrossAttention",
            {"gamma.scale": "gamma", **{part: part for part in PROJECTIONS}},
            convert=scalar_in_a_vector,
        ),
        KeyMap("the official CCNet code", {part: part for part in ("gamma", *PROJECTIONS)}),
    ),
)
class CrissCrossAttention(ProjectedAttention):
    r"""Criss-cross attention: to each position is added a weighted mean of the positions in its row and its column.

    .. math::
        a_{ij} = \mathrm{softmax}_j(q_i \cdot k_j), \qquad y_i = x_i + \gamma \sum_j a_{ij} v_j

    where j are the H + W - 1 positions in the column and the row of i, and q, k and v are 1 × 1 convolutions of x with
    biases. Applied twice, each position sees all others.

    Args:
        channels: C of the maps.
        reduction: r; q and k have max(1, C // r) channels, v has C.
        recurrence: R, how often the same module, with the same weights, is applied in turn.
        identity: start at exactly x. The official form does so already, with γ = 0, so this changes nothing.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``.

    Memory:
        N · HW · (H + W) weights, of each application.

    Paper:
        CCNet (arXiv 1811.11721); official code: speedinghzl/CCNet, ``cc_attention/functions.py``, with r = 8 and dot
        products that are not scaled. γ starts at 0, so y = x, which users have taken for a defect; the convolutions
        start as PyTorch's. One call of the official class is R = 1; its networks call it twice, between two
        convolutions.

    Deviations from the official code: it runs on a CUDA device only, since it makes its mask there; here it runs
    everywhere. q and k have at least one channel, where it has none for C < 8.

    The bias of k has no effect: it adds the same to all j, which softmax does not see.

    Raises:
        WhatwhereError: ``channels``, ``reduction`` or ``recurrence`` below 1, ``identity`` that is neither True nor
            False.

    Example:
        >>> import torch, whatwhere as ww
        >>> x = torch.randn(2, 64, 7, 5)
        >>> ww.CrissCrossAttention(64, recurrence=2)(x).equal(x)
        True
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 8,
        recurrence: int = 1,
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(channels, reduction=reduction, identity=identity, device=device, dtype=dtype)
        self.recurrence = check_count("recurrence", recurrence)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with the means of rows and columns added, ``(N, C, H, W)`` → ``(N, C, H, W)``."""
        for _ in range(self.recurrence):
            x = add_scaled(x, self.gamma, self.crossing_means(x))
        return x

    def crossing_means(self, x: Tensor) -> Tensor:
        """Return the weighted mean of the positions in the column and the row of each, ``(N, C, H, W)``."""
        query, key, value = (conv(x) for conv in (self.query_conv, self.key_conv, self.value_conv))
        height = x.shape[2]
        row = torch.arange(height, device=x.device)
        column_scores = query.permute(0, 3, 2, 1) @ key.permute(0, 3, 1, 2)  # (N, W, H, H)
        # The position itself is in its row already.
        column_scores = column_scores.masked_fill(row[:, None] == row, float("-inf"))
        row_scores = query.permute(0, 2, 3, 1) @ key.permute(0, 2, 1, 3)  # (N, H, W, W)
        weights = torch.cat((column_scores.transpose(1, 2), row_scores), -1).softmax(-1).to(value.dtype)
        by_column, by_row = weights[..., :height], weights[..., height:]
        columns = by_column.transpose(1, 2) @ value.permute(0, 3, 2, 1)  # (N, W, H, C)
        rows = by_row @ value.permute(0, 2, 3, 1)  # (N, H, W, C)
        means: Tensor = (columns.transpose(1, 2) + rows).permute(0, 3, 1, 2)
        return means

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, hidden={self.hidden}, recurrence={self.recurrence}, identity={self.identity}"
