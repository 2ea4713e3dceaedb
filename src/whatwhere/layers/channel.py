"""CAM, the channel attention module of CBAM."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .. import ops
from .attention import GatedAttention
from .checks import check_flag, check_pools
from .excitation import Excitation
from .gate import apply_gate, check_gate, gate_factor
from .key_map import KeyMap, Shapes
from .mlp import MLP, reduction_from
from .recording import options_of_class
from .registry import register


@register(
    "cam",
    title="channel attention module of CBAM",
    paper="CBAM, ECCV 2018, arXiv 1807.06521",
    code="https://github.com/Jongchan/attention-module",
    formula="c = σ(Σ over pools p of MLP(p(x)))",
    kind="channel",
    key_maps=(
        KeyMap(
            "the channel part of the official CBAM code",
            {"mlp.1": "mlp.fc1", "mlp.3": "mlp.fc2"},
            options={"gate": "sigmoid", "activation": "relu", "pools": ("avg", "max")},
        ),
    ),
)
class ChannelAttention(GatedAttention):
    r"""Channel attention ("what") with one MLP shared by several squeezes.

    .. math:: c = \sigma\Big(\sum_{p \in pools} W_2\, ReLU(W_1\, p(x) + b_1) + b_2\Big), \qquad y = x \cdot c

    Args:
        channels: C of the maps.
        reduction: r; the hidden width is max(1, C // r).
        hidden: the hidden width itself, in place of C // r.
        activation: between the two layers: ``relu`` (the paper), ``silu``, ``gelu``, ``hard_swish`` or ``relu6``.
        pools: any of ``avg``, ``max``, ``lp``, ``lse`` (see :func:`whatwhere.ops.squeeze_space`); the MLP's outputs are
            summed.
        bias: whether the MLP's layers have biases.
        gate: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate exactly 1: the gate is 2·σ(z) and the MLP's last layer starts at 0.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``; gates: channel ``(N, C, 1, 1)``.

    Paper:
        CBAM (arXiv 1807.06521), section 3.1; official code: Jongchan/attention-module, ``MODELS/cbam.py``,
        ``ChannelGate``.

    Deviations from the official code: where C < r it builds a hidden layer of width 0, whose gate can never depend on
    the input; here the width is at least 1. The gradient of ``lp`` at an all-zero channel is 0 instead of NaN.

    Raises:
        WhatwhereError: an unknown pool, gate or activation, a pool named twice, ``channels``, ``reduction`` or
            ``hidden`` below 1, ``identity`` that is neither True nor False.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.ChannelAttention(64, pools=("avg", "max")).gates(torch.rand(2, 64, 7, 7)).channel.shape
        torch.Size([2, 64, 1, 1])
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        hidden: int | None = None,
        activation: str = "relu",
        pools: str | Sequence[str] = ("avg", "max"),
        bias: bool = True,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(channels)
        self.pools = check_pools(pools, ops.SPACE_POOLS)
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        self.mlp = MLP(
            channels,
            reduction,
            hidden=hidden,
            activation=activation,
            bias=bias,
            zero=identity,
            device=device,
            dtype=dtype,
        )

    def settings(self) -> dict[str, Any]:
        """Return the value of every option, and the pools in the order of their names: they are summed."""
        return {**super().settings(), "pools": tuple(sorted(self.pools))}

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``reduction`` and ``bias``."""
        found = reduction_from(shapes.get("mlp.fc1.weight"))
        return {**found, "bias": "mlp.fc1.bias" in shapes} if found else {}

    def excitation(self) -> Excitation:
        """Return the two layers of the MLP."""
        first, second = self.mlp.fc1, self.mlp.fc2
        return Excitation(
            self.channels,
            first.out_features,
            self.mlp.activation,
            self.gate,
            self.identity,
            self.pools,
            (first.weight, first.bias),
            (second.weight, second.bias),
        )

    @classmethod
    def options_for_excitation(
        cls, excitation: Excitation, *, identity: bool, chosen: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return width, activation, gate and bias, and for the same output pools and the form of the gate too."""
        taken: dict[str, Any] = {"activation": excitation.activation, "gate": excitation.gate, "bias": excitation.bias}
        if "reduction" not in chosen:
            taken["hidden"] = excitation.hidden
        if identity and "pools" in options_of_class(cls):
            taken["pools"] = excitation.pools
        return {**taken, "identity": identity and excitation.identity}

    def take_excitation(self, excitation: Excitation) -> bool:
        """Copy the weights into the MLP."""
        return excitation.write(self.mlp)

    def logits(self, squeezed: Tensor) -> Tensor:
        """Return what the gate function is applied to: ``(N, P, C)`` of the pools → ``(N, C, 1, 1)``."""
        z: Tensor = self.mlp(squeezed)
        return (z[:, 0] if z.shape[1] == 1 else z.sum(1))[:, :, None, None]

    def excite(self, squeezed: Tensor) -> Tensor:
        """Return the channel gate: ``(N, P, C)`` of the pools → ``(N, C, 1, 1)``."""
        return apply_gate(self.logits(squeezed), self.gate, self.identity)

    def steps(self) -> tuple[ops.Step, ...]:
        """Return the one step: squeeze over space, excite."""
        known = None
        if self.mlp.activation == "relu":
            known = ops.Dense(self.mlp.fc1, self.mlp.fc2, self.gate, gate_factor(self.identity))
        return (ops.Step("channel", self.pools, self.excite, known=known),)

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.mlp.reset_parameters()

    def extra_repr(self) -> str:
        """Say the options."""
        return f"{self.channels}, pools={self.pools}, gate={self.gate!r}, identity={self.identity}"
