"""What is recorded of a forward pass: values, the operations between them, and the calls of modules."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import torch

MemoryFormat = Literal["nchw", "nhwc"]
Grid = tuple[int, int]
_MATRIX = {"addmm", "mm", "bmm", "baddbmm", "linear", "matmul", "einsum"}


@dataclass(frozen=True)
class Value:
    """A tensor at one moment: the operation that made it, the values that it was made from, its memory format.

    ``grids`` has (H, W) of a map; for a tensor that is no map, those of the maps that it was made from.
    """

    op: str
    parents: tuple[int, ...]
    shape: tuple[int, ...]
    memory_format: MemoryFormat | None
    device: torch.device
    dtype: torch.dtype
    hidden: bool = False
    addends: tuple[int, int] | None = None
    grids: frozenset[Grid] = frozenset()

    @property
    def is_map(self) -> bool:
        """Whether this is a feature map of shape (N, C, H, W)."""
        return len(self.shape) == 4 and self.memory_format == "nchw"

    @property
    def grid(self) -> Grid | None:
        """(H, W) of a feature map in either memory format; None for other tensors."""
        if len(self.shape) != 4 or self.memory_format is None:
            return None
        return self.shape[2:] if self.memory_format == "nchw" else self.shape[1:3]

    @property
    def is_scaled(self) -> bool:
        """Whether this is one other value times something that does not depend on the input (a layer scale)."""
        return self.op in ("mul", "div") and len(self.parents) == 1

    @property
    def is_convolution(self) -> bool:
        """Whether a convolution made this."""
        return "conv" in self.op and "convert" not in self.op

    @property
    def is_weighted(self) -> bool:
        """Whether a convolution or a matrix product made this."""
        return self.is_convolution or self.op in _MATRIX

    @property
    def positions(self) -> float:
        """How many positions the map has, H · W; infinite where that has no meaning."""
        return float("inf") if self.grid is None else self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class Call:
    """One call of a module: the values that went in (positional tensors), and the one that came out, if it was a
    tensor.
    """

    name: str
    inputs: tuple[int | None, ...]
    output: int | None
    hidden: bool

    @property
    def passes_through(self) -> bool:
        """Whether the module returned what it was given."""
        return self.output is not None and self.inputs[:1] == (self.output,)

    @property
    def produces(self) -> bool:
        """Whether the module made a new value."""
        return self.output is not None and self.output not in self.inputs


@dataclass
class Trace:
    """A whole forward pass: values in the order of their making, module calls in the order of their end."""

    values: list[Value] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ancestors: list[int] = []

    def ancestors(self, value: int) -> int:
        """Return the set of everything that ``value`` was made from, itself too, as bits of an integer."""
        for index in range(len(self._ancestors), value + 1):
            bits = 1 << index
            for parent in self.values[index].parents:
                bits |= self._ancestors[parent]
            self._ancestors.append(bits)
        return self._ancestors[value]

    def times(self) -> Counter[str]:
        """Return how often each module was called."""
        return Counter(call.name for call in self.calls)
