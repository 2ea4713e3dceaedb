"""What a fused module runs instead of its own forward: batch normalisation, attention, add and ReLU as one op.

A fused module has one of these functions, bound to itself, as ``forward`` in its own ``__dict__``. Without it the
module runs its own forward again. ``deepcopy`` and ``pickle`` copy it; ``torch.compile`` sees it and compiles anew.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .. import ops
from ..graph.forward import fused_forward
from ..layers import Attention


@dataclass(frozen=True)
class BlockSpec:
    """How a residual block is built, by the names of its parts: relu(norm(path(x)) + shortcut(x)).

    Attributes:
        path: the modules that the input goes through, one after the other, up to the last normalisation.
        norm: the last normalisation.
        shortcut: the module on the shortcut, None or an attribute that is None where the input itself is added.
        act: the ReLU after the add.
        absent: attributes that have to be None or an identity, because the block would run them in between.

    Example:
        >>> import whatwhere as ww
        >>> ww.BlockSpec(path=("conv1", "bn1", "relu", "conv2"), norm="bn2", shortcut="downsample", act="relu").norm
        'bn2'
    """

    path: tuple[str, ...]
    norm: str
    shortcut: str | None
    act: str
    absent: tuple[str, ...] = ()


@fused_forward
def run_block(block: Any, spec: BlockSpec, x: Tensor) -> Tensor:
    """Run a residual block, from its last normalisation on as one op."""
    out = x
    for name in spec.path:
        out = getattr(block, name)(out)
    shortcut = getattr(block, spec.shortcut) if spec.shortcut else None
    return run_tail(getattr(block, spec.norm), out, x if shortcut is None else shortcut(x), True)


@fused_forward
def run_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Run a batch normalisation and the attention on its output as one op."""
    return run_tail(norm, x, None, False)


def run_tail(norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """Return relu(attention(norm(x)) + residual), with the attention that the norm has now, if any."""
    attention = norm._modules.get("attention")
    if isinstance(attention, Attention):
        return attention.attend(x, norm=norm, residual=residual, relu=relu)
    return ops.attend(x, (), norm=norm, residual=residual, relu=relu)
