"""GC, the global context block of GCNet."""

from typing import Any

from torch import Tensor, nn

from .. import ops
from .attention import Attention
from .checks import check_choice, check_flag, hidden_width
from .gate import apply_gate, check_gate
from .key_map import KeyMap, Shapes
from .mlp import reduction_from
from .registry import register


def _from_timm(name: str, tensor: Tensor) -> Tensor:
    """Return the weight or bias of a normalisation, ``(C,)`` there, as ``(C, 1, 1)``."""
    return tensor[:, None, None] if ".1." in name and tensor.ndim == 1 else tensor


@register(
    "gc",
    title="global context block",
    paper="GCNet, ICCV Workshops 2019, arXiv 1904.11492",
    code="https://github.com/xvjiarui/GCNet",
    formula="x + W₂ ReLU(LN(W₁ Σ softmax(w·x)·x))",
    kind="residual",
    key_maps=(
        KeyMap(
            "the official GCNet code and mmcv",
            {
                part: part
                for part in ("conv_mask", *(f"channel_{f}_conv.{i}" for f in ("add", "mul") for i in (0, 1, 3)))
            },
            r"(?P<block>.+)\.context_block",
            options={"gate": "sigmoid", "eps": 1e-5},
        ),
        KeyMap(
            "timm's GC",
            {
                "conv_attn": "conv_mask",
                **{
                    f"mlp_{theirs}.{part}": f"channel_{ours}_conv.{i}"
                    for theirs, ours in (("scale", "mul"), ("add", "add"))
                    for part, i in (("fc1", 0), ("norm", 1), ("fc2", 3))
                },
            },
            r"(?P<block>.+)\.se",
            options={"gate": "sigmoid", "eps": 1e-6},
            convert=_from_timm,
        ),
    ),
)
class GlobalContext(Attention):
    r"""Global context: one vector for the whole map, a weighted mean of its positions, changes every position alike.

    .. math::
        c &= \sum_p a_p\, x_p, \qquad a = \mathrm{softmax}_p(w \cdot x_p + b) \\
        t &= W_2\, ReLU\big(LN(W_1 c + b_1)\big) + b_2, \qquad y = x + t

    where p are the positions and LN normalises over the channels of the hidden layer.

    Args:
        channels: C of the maps.
        reduction: r; the hidden width is max(1, C // r). The official configurations call 1/r the ratio and have
            r = 16 and r = 4.
        hidden: the hidden width itself, in place of C // r.
        pooling: ``attention`` weighs the positions as above, ``avg`` takes their plain mean.
        fusion: ``add`` as above, ``mul``: y = x · σ(t), or ``both``: y = x · σ(t') + t, with two transforms of the same
            context.
        eps: added to the variance in the normalisation; timm has 1e-6.
        gate: the function of ``mul`` and ``both``: ``sigmoid`` or ``hard_sigmoid``.
        identity: start with every gate of ``mul`` and ``both`` exactly 1: it is 2·σ(t). ``add`` starts at t = 0 in the
            official form already.
        device: where the parameters are made.
        dtype: of the parameters.

    Shapes:
        ``(N, C, H, W)`` → ``(N, C, H, W)``.

    Paper:
        GCNet (arXiv 1904.11492); official code: xvjiarui/GCNet, ``mmdet/ops/gcb/context_block.py``, the same as mmcv's
        ``ContextBlock``; after the last normalisation of a residual block, before the addition, in the last three
        stages. The weights of the positions start He-normal (fan-in), the last layer of each transform at 0: ``add``
        starts at exactly x, ``mul`` at x/2.

    Deviations from the official code: it has no default ratio. The hidden width is at least 1, where it has a layer of
    width 0 for C < r.

    A hidden width of 1 makes the transform a constant: the layer normalisation of one value is its bias. With r = 16
    that is so below 32 channels; take a smaller reduction there. The bias of the weights' convolution has no effect,
    since softmax does not see it.

    Copies: timm's ``gc`` multiplies and its ``gca`` adds, with r = 8, ``eps=1e-6`` and a
    last layer that does not start at 0: its ``gca`` changes the map from the start.

    Raises:
        WhatwhereError: an unknown pooling, fusion or gate, a number below 1, ``identity`` that is neither True nor
            False.

    Example:
        >>> import torch, whatwhere as ww
        >>> x = torch.randn(2, 64, 7, 7)
        >>> ww.GlobalContext(64)(x).equal(x), ww.GlobalContext(64, fusion="mul")(x).equal(x / 2)
        (True, True)
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        hidden: int | None = None,
        pooling: str = "attention",
        fusion: str = "add",
        eps: float = 1e-5,
        gate: str = "sigmoid",
        identity: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(channels)
        self.hidden = hidden_width(channels, reduction, hidden)
        self.pooling = check_choice("pooling", pooling, ("attention", "avg"))
        self.fusion = check_choice("fusion", fusion, ("add", "mul", "both"))
        self.gate = check_gate(gate)
        self.identity = check_flag("identity", identity)
        factory = {"device": device, "dtype": dtype}

        def transform() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels, self.hidden, 1, **factory),
                nn.LayerNorm((self.hidden, 1, 1), eps, **factory),
                nn.ReLU(),
                nn.Conv2d(self.hidden, channels, 1, **factory),
            )

        self.conv_mask = nn.Conv2d(channels, 1, 1, **factory) if pooling == "attention" else None
        self.channel_add_conv = transform() if fusion != "mul" else None
        self.channel_mul_conv = transform() if fusion != "add" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        if self.conv_mask is not None:
            nn.init.kaiming_normal_(self.conv_mask.weight)
            assert self.conv_mask.bias is not None
            nn.init.zeros_(self.conv_mask.bias)
        for transform in (self.channel_add_conv, self.channel_mul_conv):
            if transform is not None:
                for layer in transform:
                    if isinstance(layer, (nn.Conv2d, nn.LayerNorm)):
                        layer.reset_parameters()
                for parameter in transform[-1].parameters():
                    nn.init.zeros_(parameter)

    def settings(self) -> dict[str, Any]:
        """Return the value of every option, the hidden width in place of the reduction.

        ``gate`` and ``identity`` are left out where there is no gate.
        """
        found = {**super().settings(), "hidden": self.hidden}
        del found["reduction"]
        if self.fusion == "add":
            del found["gate"], found["identity"]
        return found

    @classmethod
    def options_from_shapes(cls, shapes: Shapes) -> dict[str, Any]:
        """Return ``reduction``, ``pooling`` and ``fusion``."""
        add, mul = (shapes.get(f"channel_{fusion}_conv.0.weight") for fusion in ("add", "mul"))
        first = add or mul
        if first is None:
            return {}
        pooling = "attention" if "conv_mask.weight" in shapes else "avg"
        fusion = "both" if add and mul else "add" if add else "mul"
        return {**reduction_from(first[:2]), "pooling": pooling, "fusion": fusion}

    @property
    def idle_parameters(self) -> tuple[str, ...]:
        """The bias before the softmax."""
        return ("conv_mask.bias",) if self.conv_mask is not None else ()

    def context(self, x: Tensor) -> Tensor:
        """Return the weighted mean of the positions of ``(N, C, H, W)``, ``(N, C, 1, 1)``."""
        if self.conv_mask is None:
            return ops.squeeze_space(x, ("avg",))[:, 0, :, None, None]
        weights: Tensor = self.conv_mask(x).flatten(2).softmax(-1)
        return (x.flatten(2) @ weights.to(x.dtype).mT)[..., None]

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with the context multiplied and added, ``(N, C, H, W)`` → ``(N, C, H, W)``."""
        context = self.context(x)
        gate = term = None
        if self.channel_mul_conv is not None:
            gate = apply_gate(self.channel_mul_conv(context), self.gate, self.identity)
        if self.channel_add_conv is not None:
            term = self.channel_add_conv(context).to(x.dtype)
        return ops.apply_gates(x, gate, residual=term)

    def extra_repr(self) -> str:
        """Say the options."""
        gate = "" if self.fusion == "add" else f", gate={self.gate!r}"
        return f"{self.channels}, pooling={self.pooling!r}, fusion={self.fusion!r}{gate}, identity={self.identity}"
