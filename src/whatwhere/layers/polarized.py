"""Polarized self-attention, parallel and sequential."""

from typing import Any

import torch
from torch import Tensor, nn

from .. import ops
from .attention import GatedAttention, Gates
from .checks import check_choice, check_count, check_flag
from .gate import apply_gate, check_gate
from .key_map import KeyMap
from .registry import register

_FOUR = ("conv_q_right", "conv_v_right", "conv_q_left", "conv_v_left")
_PAPER = {
    "ch_wq": "conv_q_right",
    "ch_wv": "conv_v_right",
    "ch_wz": "conv_up",
    "ln": "ln",
    "sp_wq": "conv_q_left",
    "sp_wv": "conv_v_left",
}
_OPTIONS = {"form": "code", "gate": "sigmoid"}
_PAPER_OPTIONS = {"form": "paper", "gate": "sigmoid"}


class _Polarized(GatedAttention):
    """The two branches that both attentions have. Names of layers are those of the official code."""

    deep = False
    """Whether the code's form has two layers after the channel context."""

    def __init__(
        self,
        channels: int,
        *,
        form: str = "code",
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(check_count("channels", channels))
        self.form = check_choice("form", form, ("code", "paper"))
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        paper = form == "paper"
        half = max(1, channels // 2)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.conv_q_right = nn.Conv2d(channels, 1, 1, bias=paper, **factory)
        self.conv_v_right = nn.Conv2d(channels, half, 1, bias=paper, **factory)
        self.conv_up: nn.Module = nn.Conv2d(half, channels, 1, bias=paper, **factory)
        if self.deep and not paper:
            few = max(1, half // 4)
            self.conv_up = nn.Sequential(
                nn.Conv2d(half, few, 1, **factory),
                nn.LayerNorm([few, 1, 1], **factory),
                nn.ReLU(),
                nn.Conv2d(few, channels, 1, **factory),
            )
        self.ln = nn.LayerNorm(channels, **factory) if paper else None
        self.conv_q_left = nn.Conv2d(channels, half, 1, bias=paper, **factory)
        self.conv_v_left = nn.Conv2d(channels, half, 1, bias=paper, **factory)
        # The code's spatial z ends in a softmax: no layer could make it 0.
        self.gamma = nn.Parameter(torch.zeros(1, **factory)) if identity and not paper else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.LayerNorm)):
                module.reset_parameters()
        if self.form == "code":
            for name in _FOUR:
                nn.init.kaiming_normal_(self.get_parameter(f"{name}.weight"), mode="fan_in")
        if not self.identity:
            return
        if self.gamma is None:
            assert self.ln is not None
            last = [*self.ln.parameters(), *self.conv_v_left.parameters()]
        else:
            layer = self.conv_up[3] if isinstance(self.conv_up, nn.Sequential) else self.conv_up
            last = [*layer.parameters(), self.gamma]
        for parameter in last:
            nn.init.zeros_(parameter)

    def channel_logits(self, x: Tensor) -> Tensor:
        """Return what the channel gate is of, ``(N, C, 1, 1)``.

        The convolution v follows the weighted mean over positions instead of preceding it: both are linear.
        """
        weights = torch.softmax(self.conv_q_right(x).flatten(2), -1)
        mean = x.flatten(2) @ weights.mT.to(x.dtype)
        z: Tensor = self.conv_up(self.conv_v_right(mean[..., None]))
        if self.ln is not None:
            normal: Tensor = self.ln(z.flatten(1))
            return normal[:, :, None, None]
        return z

    def spatial_logits(self, x: Tensor, channel: Tensor | None = None) -> Tensor:
        """Return what the spatial gate is of, ``(N, 1, H, W)``, for the map times an optional channel gate.

        The gate multiplies the convolutions' weights, not the map; and where nothing stands between v and its product
        with the query, their product comes first: one number a channel in place of a convolution.
        """
        rows, mean = x.flatten(2), ops.squeeze_space(x, ("avg",))[:, 0]
        weight = self.conv_v_left.weight.flatten(1)  # (C/2, C)
        if channel is not None:
            channel = channel.flatten(1).to(x.dtype)
            mean = mean * channel
        query = self.conv_q_left(mean[:, :, None, None]).flatten(1)
        if self.form == "paper":
            query = torch.softmax(query, -1)
        if self.deep and self.form == "code":
            gated = weight if channel is None else weight * channel[:, None]
            values = torch.softmax(gated @ rows, -1)
            z = query[:, None].to(values.dtype) @ values
        else:
            keys = query @ weight.to(query.dtype)
            z = (keys if channel is None else keys * channel)[:, None].to(x.dtype) @ rows
            if self.form == "code":
                z = torch.softmax(z, -1)
            elif self.conv_v_left.bias is not None:
                z = z + (query @ self.conv_v_left.bias.to(query.dtype))[:, None, None]
        z = z.reshape(len(x), 1, *x.shape[2:])
        return z if self.gamma is None else z * self.gamma

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, form={self.form!r}, gate={self.gate!r}, identity={self.identity}"


@register(
    "polarized_p",
    title="polarized self-attention, parallel",
    paper="Polarized Self-Attention, 2021, arXiv 2107.00782",
    code="https://github.com/DeLightCMU/PSA",
    formula="c + s, c = σ(W avg weighted by softmax(q(x))), s = σ(softmax(avg(q'(x))ᵀ v'(x)))",
    kind="full",
    key_maps=(
        KeyMap(
            "the official PSA_p code", {name: name for name in (*_FOUR[:2], "conv_up", *_FOUR[2:])}, options=_OPTIONS
        ),
        KeyMap("External-Attention-pytorch's ParallelPolarizedSelfAttention", _PAPER, options=_PAPER_OPTIONS),
    ),
)
class PolarizedParallel(_Polarized):
    r"""Polarized self-attention with a channel gate and a spatial gate of the same map, added.

    .. math::
        c &= \sigma\big(W_{up} \sum_p \operatorname{softmax}_p(q(x))_p\, v(x)_p\big) \\
        s &= \sigma\big(\operatorname{softmax}_p(avg(q'(x))^T v'(x))\big) \\
        y &= x \cdot c + x \cdot s

    where p are the positions; q has one channel, v, q' and v' have C/2, all by 1×1 convolutions.

    Args:
        channels: C of the maps.
        form: ``code`` as above, or ``paper``: the softmax of s is over the channels of the pooled query, before its
            product with v', and z of c passes a LayerNorm over the channels; all convolutions have biases, as in
            External-Attention-pytorch.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with c + s exactly 1, both being ½. ``code``: the last convolution of c starts at 0, and a
            scalar γ that starts at 0 multiplies z of s. ``paper``: the LayerNorm's weight and bias and v' start at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: full ``(N, C, H, W)``, c + s, in (0, 2).

    Paper:
        Polarized self-attention (arXiv 2107.00782); official code: DeLightCMU/PSA,
        ``semantic-segmentation/network/PSA.py``, ``PSA_p``: convolutions without biases; q, v, q' and v' are drawn
        He-normal (fan-in), the last convolution as PyTorch draws it. At the start y is about x.

    Deviations from the official code: C/2 is at least 1. The default follows the code, whose spatial gate is all but
        constant, since its z are positive and sum to 1 over the positions (0.500 to 0.530 on random maps). The products
        are taken in an order that needs no convolution of the whole map but q; the numbers are the same up to
        rounding.

    Copies: the official code calls the channel branch ``spatial_pool`` and the spatial one ``channel_pool``.
        External-Attention-pytorch has the paper's form, and other names, which load here with ``form="paper"``.

    Raises:
        WhatwhereError: an unknown ``form`` or gate, ``channels`` below 1, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.PolarizedParallel(64).gates(torch.rand(2, 64, 7, 7)).full.shape
        torch.Size([2, 64, 7, 7])
    """

    @property
    def neutral(self) -> float:
        """The gate where both z are 0: ½ + ½."""
        return 1.0

    def gates(self, x: Tensor) -> Gates:
        """Return the full gate, ``(N, C, H, W)``."""
        channel, spatial = (apply_gate(z, self.gate, False) for z in (self.channel_logits(x), self.spatial_logits(x)))
        return Gates(full=channel + spatial)


@register(
    "polarized_s",
    title="polarized self-attention, sequential",
    paper="Polarized Self-Attention, 2021, arXiv 2107.00782",
    code="https://github.com/DeLightCMU/PSA",
    formula="c · s, c = σ(MLP(avg weighted by softmax(q(x)))), s = σ(avg(q'(x·c))ᵀ softmax(v'(x·c)))",
    kind="both",
    key_maps=(
        KeyMap(
            "the official PSA_s code",
            {name: name for name in (*_FOUR[:2], "conv_up.0", "conv_up.1", "conv_up.3", *_FOUR[2:])},
            options=_OPTIONS,
        ),
        KeyMap("External-Attention-pytorch's SequentialPolarizedSelfAttention", _PAPER, options=_PAPER_OPTIONS),
    ),
)
class PolarizedSequential(_Polarized):
    r"""Polarized self-attention with a channel gate, then a spatial gate of the map that the first one leaves.

    .. math::
        c &= \sigma\Big(W_2\, ReLU\big(LN\big(W_1 \sum_p \operatorname{softmax}_p(q(x))_p\, v(x)_p + b_1\big)\big)
            + b_2\Big) \\
        s &= \sigma\big(avg(q'(x \cdot c))^T \operatorname{softmax}_p(v'(x \cdot c))\big) \\
        y &= x \cdot c \cdot s

    where p are the positions; q has one channel, v, q' and v' have C/2, all by 1×1 convolutions; the width between
    :math:`W_1` and :math:`W_2` is C/8.

    Args:
        channels: C of the maps.
        form: ``code`` as above, or ``paper``: the softmax of s is over the channels of the pooled query, and none over
            positions; c is σ(LN(W v + b)), with a LayerNorm over C channels and no hidden layer; all convolutions have
            biases, as in External-Attention-pytorch.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gates are 2·σ(z). ``code``: :math:`W_2` and :math:`b_2` start at
            0, and a scalar γ that starts at 0 multiplies z of s. ``paper``: the LayerNorm's weight and bias and v'
            start at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: channel ``(N, C, 1, 1)`` and spatial ``(N, 1, H, W)``.

    Paper:
        Polarized self-attention (arXiv 2107.00782); official code: DeLightCMU/PSA,
        ``semantic-segmentation/network/PSA.py``, ``PSA_s``, which its networks use: q, v, q' and v' without biases and
        drawn He-normal (fan-in), the two layers of c with biases and PyTorch's initial values. At the start y is about
        ¼ x.

    Deviations from the official code: C/2 and C/8 are at least 1, where the code fails below 8 channels. The default
        follows the code, whose spatial gate is all but constant, since each channel of its softmax sums to 1 over the
        positions (0.480 to 0.513 on random maps). The channel gate multiplies the weights of q' and v' in place of
        the map, and v follows the weighted mean; the numbers are the same up to rounding.

    Copies: as for :class:`PolarizedParallel`.

    Raises:
        WhatwhereError: an unknown ``form`` or gate, ``channels`` below 1, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.PolarizedSequential(64).gates(torch.rand(2, 64, 7, 7)).spatial.shape
        torch.Size([2, 1, 7, 7])
    """

    deep = True

    def gates(self, x: Tensor) -> Gates:
        """Return the channel gate ``(N, C, 1, 1)`` and the spatial gate ``(N, 1, H, W)``."""
        channel = apply_gate(self.channel_logits(x), self.gate, self.identity)
        return Gates(channel, apply_gate(self.spatial_logits(x, channel), self.gate, self.identity))
