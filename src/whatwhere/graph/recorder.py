"""Numbers the values of a forward pass.

Every tensor that depends on the input gets a number. An in-place operation gives its tensor a new number, so that
``out += shortcut`` and ``ReLU(inplace=True)`` are steps like any other.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .memory_format import find_grids, find_memory_format
from .values import MemoryFormat, Trace, Value


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Numbers every tensor that depends on the input. Keeps them all alive, so that no ``id`` is used twice."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = trace
        self.hidden = 0
        self._alive: list[Tensor] = []
        self._seen: dict[int, tuple[int, int]] = {}  # tensor → (its value, writes to its storage up to then)
        self._writes: dict[int, tuple[int, int]] = {}  # storage → (how many writes, the value last written)

    def start(self, tensor: Tensor) -> None:
        """Make ``tensor`` an input."""
        shape, memory_format = tuple(tensor.shape), _first_memory_format(tensor)
        grids = find_grids(memory_format, shape, [])
        self._name(tensor, Value("input", (), shape, memory_format, tensor.device, tensor.dtype, grids=grids))

    def value(self, tensor: Any) -> int | None:
        """Return the number of what ``tensor`` holds now; None for a constant or a parameter."""
        if not isinstance(tensor, Tensor) or id(tensor) not in self._seen:
            return None
        number, then = self._seen[id(tensor)]
        writes, written = self._writes.get(_storage(tensor), (0, number))
        if writes > then:  # written through another view of the same memory
            old = self.trace.values[number]
            return self._name(tensor, replace(old, op="alias", parents=(number, written), addends=None))
        return number

    def _name(self, tensor: Tensor, value: Value, written: bool = False) -> int:
        number = len(self.trace.values)
        self.trace.values.append(value)
        storage = _storage(tensor)
        writes = self._writes.get(storage, (0, number))[0]
        if written:
            writes += 1
            self._writes[storage] = (writes, number)
        self._seen[id(tensor)] = (number, writes)
        self._alive.append(tensor)
        return number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = [self.value(leaf) for leaf in tree_leaves((args, kwargs))]
        parents = tuple(dict.fromkeys(number for number in found if number is not None))
        result = func(*args, **kwargs)
        if not parents:
            return result
        op = func._schema.name.split("::")[-1].rstrip("_")
        written = {id(leaf) for leaf in _written(func, args, kwargs)}
        addends = None
        if op == "add" and len(parents) == 2 and kwargs.get("alpha", args[2] if len(args) > 2 else 1) == 1:
            shapes = {self.trace.values[parent].shape for parent in parents}
            addends = (parents[0], parents[1]) if shapes == {tuple(args[0].shape)} else None
        before = [self.trace.values[parent] for parent in parents]
        for leaf in {id(leaf): leaf for leaf in tree_leaves((result, _written(func, args, kwargs)))}.values():
            if isinstance(leaf, Tensor):
                shape = tuple(leaf.shape)
                memory_format = find_memory_format(op, args, shape, before)
                grids = find_grids(memory_format, shape, before)
                made = Value(
                    op, parents, shape, memory_format, leaf.device, leaf.dtype, self.hidden > 0, addends, grids
                )
                self._name(leaf, made, written=id(leaf) in written)
        return result


def _storage(tensor: Tensor) -> int:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # sparse tensors have none
        return id(tensor)


def _first_memory_format(tensor: Tensor) -> MemoryFormat | None:
    return "nchw" if tensor.dim() in (3, 4) else None


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Return the tensors that ``func`` writes into, by its schema."""
    found: list[Tensor] = []
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[index] if index < len(args) else kwargs.get(argument.name)
            found += [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
    return found
