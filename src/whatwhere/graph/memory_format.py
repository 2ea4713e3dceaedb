"""Which axes of a tensor are channels, rows and columns, followed through the operations of a forward pass."""

from typing import Any

from .values import Grid, MemoryFormat, Value

_TURNS: dict[tuple[int, ...], dict[MemoryFormat, MemoryFormat]] = {
    (0, 2, 3, 1): {"nchw": "nhwc"},
    (0, 3, 1, 2): {"nhwc": "nchw"},
    (0, 1, 2, 3): {"nchw": "nchw", "nhwc": "nhwc"},
}
_REARRANGES = {"view", "_unsafe_view", "reshape", "permute", "transpose", "unsqueeze", "squeeze", "t"}


def find_memory_format(op: str, args: Any, shape: tuple[int, ...], parents: list[Value]) -> MemoryFormat | None:
    """Return which axis of a result has the channels, or None if it is no feature map.

    Convolutions give ``(N, C, H, W)``; pointwise operations, pooling and concatenation keep the memory format. A
    rearrangement gives a map again if its axes for H and W have the sizes of a map that it was made from: so tokens
    ``(N, H·W, C)`` become maps again, and windows, patches and heads do not. A 1×1 convolution of a tensor that is no
    map is a linear layer on tokens and gives no map.
    """
    if len(shape) != 4:
        return None
    known = next((parent.memory_format for parent in parents if len(parent.shape) == 4 and parent.memory_format), None)
    if "conv" in op and "convert" not in op:
        pointwise = len(args) > 1 and tuple(args[1].shape[2:]) == (1, 1)
        return "nchw" if known or not pointwise else None
    if op == "permute" and known:
        turned = _TURNS.get(tuple(axis % 4 for axis in args[1]), {}).get(known)
        if turned:
            return turned
    elif known and op not in _REARRANGES:
        return known
    grids = find_grids(None, shape, parents) | {(1, 1)}
    if shape[2:] in grids:
        return "nchw"
    return "nhwc" if shape[1:3] in grids else None


def find_grids(memory_format: MemoryFormat | None, shape: tuple[int, ...], parents: list[Value]) -> frozenset[Grid]:
    """Return (H, W) of a map; for a tensor that is no map, those of the maps that it was made from."""
    if memory_format == "nchw":
        return frozenset({(shape[-2], shape[-1])})
    if memory_format == "nhwc":
        return frozenset({(shape[1], shape[2])})
    return frozenset().union(*(parent.grids for parent in parents))
