"""What a fused module runs in place of its own forward: batch normalisation, attention, add and ReLU as one op.

A fused module carries one of these functions, bound to itself, as ``forward`` in its own ``__dict__``. Taking it out gives the module's own forward
back; ``deepcopy`` and ``pickle`` take it along; ``torch.compile`` looks for it and compiles anew.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .. import ops
from ..graph.forward import fused_forward
from ..layers import Attention


@dataclass(frozen=True)
class BlockSpec:
    """How a residual block is made, by the names of its parts: relu(norm(path(x)) + shortcut(x)).

    Attributes:
        path: the modules that the input goes through, one after the other, up to the last normalisation.
        norm: the last normalisation.
        shortcut: the module on the shortcut, None or an attribute that is None where the input itself is added.
        act: the ReLU after the add.
        absent: attributes that have to be None or an identity, because the block would run them in between.
    """

    path: tuple[str, ...]
    norm: str
    shortcut: str | None
    act: str
    absent: tuple[str, ...] = ()


@fused_forward
def run_block(block: Any, tail: BlockSpec, x: Tensor) -> Tensor:
    """Run a residual block with its tail as one op."""
    out = x
    for name in tail.path:
        out = getattr(block, name)(out)
    shortcut = getattr(block, tail.shortcut) if tail.shortcut else None
    return run_tail(getattr(block, tail.norm), out, x if shortcut is None else shortcut(x), True)


@fused_forward
def run_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Run a batch normalisation and the attention on its output as one op."""
    return run_tail(norm, x, None, False)


def run_tail(norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """Return relu(attention(norm(x)) + residual), with the attention that stands on the norm now, if there is one."""
    attention = norm._modules.get("attention")
    if isinstance(attention, Attention):
        return attention.attend(x, norm=norm, residual=residual, relu=relu)
    return ops.attend(x, (), norm=norm, residual=residual, relu=relu)
