"""DANet: attention of all positions to each other, and of all channels to each other."""

from typing import Any

import torch
from torch import Tensor, nn

from .attention import Attention
from .checks import check_choice, check_count, check_flag
from .dot_product import as_map, positions, weighted_means
from .key_map import KeyMap
from .projections import PROJECTIONS, ProjectedAttention, add_scaled
from .registry import register


@register(
    "danet_pam",
    title="position attention of DANet",
    paper="Dual Attention Network, CVPR 2019, arXiv 1809.02983",
    code="https://github.com/junfu1115/DANet",
    formula="x + γ softmax(qᵀk) v over positions; q, k, v = 1×1(x)",
    kind="residual",
    key_maps=(
        KeyMap("the official position attention of DANet", {part: part for part in ("gamma", *PROJECTIONS)}),
        KeyMap(
            "the position attention of published DANet networks",
            {part: part for part in ("gamma", *PROJECTIONS)},
            r"(?P<head>(?:.*\.)?head)\.sa",
            module=r"\g<head>.conv5a",
            where="itself",
        ),
    ),
)
class PositionAttention(ProjectedAttention):
    r"""Position attention: to each position is added a weighted mean of all positions, by their likeness.

    .. math::
        a_{ij} = \mathrm{softmax}_j(q_i \cdot k_j), \qquad y_i = x_i + \gamma \sum_j a_{ij} v_j

    where i and j are positions and q, k and v are 1 × 1 convolutions of x with biases.

    Args:
        channels: C of the maps.
        reduction: r; q and k have max(1, C // r) channels, v has C.
        identity: start at exactly x. The official form does so already, with γ = 0, so this changes nothing.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``.

    Memory:
        N · (HW)² numbers. v is wider than q and k; where PyTorch has no fused kernel for that, all weights are stored.

    Paper:
        Dual Attention Network (arXiv 1809.02983); official code: junfu1115/DANet, ``encoding/nn/da_att.py``,
        ``PAM_Module``, with r = 8 and dot products that are not scaled. γ starts at 0, so y = x; the convolutions start
        as PyTorch's. The network has it behind a convolution of the last stage, beside :class:`DANetChannelAttention`
        behind another; the two results are convolved and added.

    Deviations from the official code: q and k have at least one channel, where it has none for C < 8.

    The bias of k has no effect: it adds the same to all j, which softmax does not see.

    Copies: External-Attention-pytorch's DANet is another formula, with 3 × 3 convolutions and a fixed size of the map.

    Raises:
        WhatwhereError: ``channels`` or ``reduction`` below 1, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> x = torch.randn(2, 64, 7, 7)
        >>> ww.PositionAttention(64)(x).equal(x)
        True
    """

    def __init__(
        self, channels: int, *, reduction: int = 8, identity: bool = False, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(channels, reduction=reduction, identity=identity, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with the mean of all positions added, ``(N, C, H, W)`` → ``(N, C, H, W)``."""
        query, key, value = (positions(conv(x)) for conv in (self.query_conv, self.key_conv, self.value_conv))
        return add_scaled(x, self.gamma, as_map(weighted_means(query, key, value), x))

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, hidden={self.hidden}, identity={self.identity}"


@register(
    "danet_cam",
    title="channel attention of DANet",
    paper="Dual Attention Network, CVPR 2019, arXiv 1809.02983",
    code="https://github.com/junfu1115/DANet",
    formula="x + γ softmax(−X Xᵀ) X over channels",
    kind="residual",
    key_maps=(
        KeyMap("the official channel attention of DANet", {"gamma": "gamma"}, options={"form": "code"}),
        KeyMap(
            "the channel attention of published DANet networks",
            {"gamma": "gamma"},
            r"(?P<head>(?:.*\.)?head)\.sc",
            module=r"\g<head>.conv5c",
            where="itself",
            options={"form": "code"},
        ),
    ),
)
class DANetChannelAttention(Attention):
    r"""Channel attention by dot products: to each channel is added a weighted mean of all channels.

    .. math::
        E = X X^T, \qquad A = \mathrm{softmax}_j(-E_{ij}), \qquad Y = X + \gamma\, A X

    where X is the map as a matrix, C × HW: E sums over all positions. There is one parameter, γ.

    Args:
        channels: C of the maps.
        form: ``code`` as above, the most unlike channel weighs most; ``paper``: softmax(+E), the most alike channel
            weighs most, which is nearly always the channel itself.
        identity: start at exactly x. The official form does so already, with γ = 0, so this changes nothing.
        device: where the parameter is made.
        dtype: of the parameter.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``.

    Memory:
        N · C² numbers at most.

    Paper:
        Dual Attention Network (arXiv 1809.02983); official code: junfu1115/DANet, ``encoding/nn/da_att.py``,
        ``CAM_Module``. Paper and code differ in the sign of E: the code takes softmax(max(E) − E), the maximum over
        each row, which is softmax(−E). The default is the code's sign; its author says in the repository's issue 48
        that the other one was tried and did not perform well. E is a sum over positions, not a mean: the larger the
        map, the closer the softmax is to picking one channel. γ starts at 0, so y = x.

    Deviations from the official code: none in the formula. E is summed in float32 for maps of half precision, where
    float16 would overflow.

    Raises:
        WhatwhereError: ``channels`` below 1, an unknown form, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> attention = ww.DANetChannelAttention(2)
        >>> torch.nn.init.ones_(attention.gamma).item()
        1.0
        >>> attention(torch.tensor([[[[9.0]], [[-9.0]]]])).flatten().tolist()  # each channel takes the opposite one
        [0.0, 0.0]
    """

    def __init__(
        self, channels: int, *, form: str = "code", identity: bool = False, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.form = check_choice("form", form, ("code", "paper"))
        self.identity = check_flag("identity", identity)
        self.gamma = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Set γ to 0."""
        nn.init.zeros_(self.gamma)

    def settings(self) -> dict[str, Any]:
        """Return the value of every option but ``identity``, which changes nothing."""
        return {key: value for key, value in super().settings().items() if key != "identity"}

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with the mean of all channels added, ``(N, C, H, W)`` → ``(N, C, H, W)``."""
        rows = x.flatten(2)
        means = weighted_means(-rows if self.form == "code" else rows, rows, rows)
        return add_scaled(x, self.gamma, means.reshape(x.shape))

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, form={self.form!r}, identity={self.identity}"
