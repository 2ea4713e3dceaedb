"""A network cut at some of its maps: what comes before the first, and the pieces between one and the next."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

from ..errors import WhatwhereError
from .operations import Graph


@dataclass(frozen=True)
class _Value:
    """Stands for a value among the arguments of an operation."""

    name: str


class Operation(NamedTuple):
    """One operation of a piece, with the name of the value that it makes."""

    name: str
    kind: str
    target: Any
    args: Any
    kwargs: Any


@dataclass(frozen=True)
class Piece:
    """Some operations of a network in a row. It holds no weights: it is run with the network, or a copy of it.

    Attributes:
        operations: in order.
        takes: names of the values that it needs, in this order.
        gives: names of the values that it returns, in this order.
    """

    operations: tuple[Operation, ...]
    takes: tuple[str, ...]
    gives: tuple[str, ...]

    def run(self, network: nn.Module, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the values that it gives, by name; ``values`` has at least those that it takes."""
        known: dict[str, Any] = {name: values[name] for name in self.takes}
        for name, kind, target, args, kwargs in self.operations:
            args, kwargs = (
                map_aggregate(one, lambda leaf: known[leaf.name] if isinstance(leaf, _Value) else leaf)
                for one in (args, kwargs)
            )
            if kind == "call_module":
                known[name] = network.get_submodule(target)(*args, **kwargs)
            elif kind == "call_method":
                known[name] = getattr(args[0], target)(*args[1:], **kwargs)
            elif kind == "get_attr":
                known[name] = operator.attrgetter(target)(network)
            else:
                known[name] = target(*args, **kwargs)
        return {name: known[name] for name in self.gives}


@dataclass(frozen=True)
class Cut:
    """A network cut into pieces.

    Attributes:
        image: the name of the value that is the image.
        frozen: from the image up to what is trained.
        before: from there up to the first point.
        between: from each point to the next.
        points: the names of the values that are the points.
        channels: of each point.
    """

    image: str
    frozen: Piece
    before: Piece
    between: tuple[Piece, ...]
    points: tuple[str, ...]
    names: tuple[str, ...]
    channels: tuple[int, ...]

    def keep_only(self, network: nn.Module) -> None:
        """Take those modules out of the network that no piece runs, such as the classifier."""
        pieces = (self.frozen, self.before, *self.between)
        kept = {one.target for piece in pieces for one in piece.operations if one.kind in ("call_module", "get_attr")}
        _keep_only(network, "", {f"{one}." for one in kept})


def _keep_only(module: nn.Module, path: str, kept: set[str]) -> None:
    for name in list(module._modules):
        own = f"{path}{name}."
        if not any(one.startswith(own) for one in kept):
            del module._modules[name]
        elif own not in kept and (inner := module._modules[name]) is not None:
            _keep_only(inner, own, kept)


def cut(graph: Graph, points: Sequence[str]) -> Cut:
    """Cut a network at points: modules, also inside a block, each made from the one before.

    What comes after the last point is left out. All values that a piece needs are among those that earlier pieces give
    (the shortcut of a block too), or are the points themselves, which the caller may change in between.

    Args:
        graph: the network.
        points: names of modules whose outputs are maps, or of other values, see :meth:`Graph.maps`.

    Raises:
        WhatwhereError: no point, an unknown name, a point that is no map, or that is not made from the one before.

    Example:
        >>> import torch
        >>> from torchvision.models import resnet18
        >>> network = resnet18().eval()
        >>> parts = cut(Graph(network, torch.zeros(1, 3, 64, 64)), ["layer4.1.relu", "layer4.1"])
        >>> parts.between[0].takes, parts.between[0].gives
        (('layer4_0_relu_1', 'layer4_1_relu'), ('layer4_1_relu_1',))
    """
    if not points:
        raise WhatwhereError("name at least one map to cut at")
    nodes = [graph.node(point) for point in points]
    for name, node in zip(points, nodes, strict=True):
        if not graph.is_map(node):
            shape = tuple(graph.shapes.get(node, ()))
            raise WhatwhereError(f"{name!r} is no feature map (N, C, H, W) with several positions: it is {shape}")
    for index in range(1, len(nodes)):
        if nodes[index] is nodes[index - 1] or not graph.needs(nodes[index], nodes[index - 1]):
            raise WhatwhereError(
                f"the points must be in the order of the network: {points[index]!r} is not made from "
                f"{points[index - 1]!r}"
            )
    wanted = graph.ancestors(nodes[-1])
    image = next(node for node in graph.graph.nodes if node.op == "placeholder")
    constants = [node for node in graph.graph.nodes if node in wanted and not graph.needs(node, image)]
    of_image = [node for node in graph.graph.nodes if node in wanted and graph.needs(node, image)]
    stages = _stages(graph, of_image, constants, nodes)
    pieces = []
    for index, own in enumerate(stages):
        later = [node for stage in stages[index + 1 :] for node in stage]
        used = {parent for node in later for parent in node.all_input_nodes}.union(nodes)
        earlier = [node for stage in stages[:index] for node in stage]
        needed = {parent for node in own for parent in node.all_input_nodes}
        takes = [node for node in earlier if node in needed or (index == 1 and node in used)]
        gives = [node for node in [*(takes if index == 1 else ()), *own] if node in used]
        if index == 0:
            takes, own = [image], own[1:]
        _check_tensors(graph, gives)
        inner = {node for constant in constants if constant in needed for node in graph.ancestors(constant)}
        pieces.append(_piece([*(node for node in constants if node in inner), *own], takes, gives))
    return Cut(
        image.name,
        pieces[0],
        pieces[1],
        tuple(pieces[2:]),
        tuple(node.name for node in nodes),
        tuple(points),
        tuple(graph.shapes[node][1] for node in nodes),
    )


def _stages(
    graph: Graph, of_image: Sequence[fx.Node], constants: Sequence[fx.Node], points: Sequence[fx.Node]
) -> list[list[fx.Node]]:
    """Return which of the nodes that are made from the image are in which piece, each in order: frozen (the image is
    the first of them), before the first point, between one and the next. A point ends its piece. What is made from
    parameters alone is in none: each piece that needs it makes it.
    """
    stages: list[list[fx.Node]] = [[] for _ in range(len(points) + 1)]
    frozen: set[fx.Node] = set()
    for node in constants:
        if not graph.learns(node) and frozen.issuperset(node.all_input_nodes):
            frozen.add(node)
    for node in of_image:
        passed = sum(point is not node and graph.needs(node, point) for point in points)
        if node.op == "placeholder" or (
            not passed and not graph.learns(node) and frozen.issuperset(node.all_input_nodes)
        ):
            frozen.add(node)
            stages[0].append(node)
        else:
            stages[passed + 1 if passed else 1].append(node)
    return stages


def last_maps(graph: Graph, count: int) -> list[str]:
    """Return the names of the last maps that a network's activations give, in the order of the network.

    The last one is the network's last map before it is pooled; the others are the activated maps before it, on the way
    to it, inside a block too.

    Raises:
        WhatwhereError: it has not so many.

    Example:
        >>> import torch
        >>> from torchvision.models import resnet50
        >>> last_maps(Graph(resnet50().eval(), torch.zeros(1, 3, 64, 64)), 3)
        ['layer4.2.relu', 'layer4.2.relu_1', 'layer4.2.relu_2']
    """
    maps = [node for node in graph.nodes if graph.is_map(node)]
    if not maps:
        raise WhatwhereError(f"{type(graph.network).__name__} has no feature maps")
    last = maps[-1]
    chosen = [last]
    for node in reversed(maps[:-1]):
        if len(chosen) < count and graph.needs(chosen[0], node) and _is_activation(graph, node):
            chosen.insert(0, node)
    if len(chosen) < count:
        raise WhatwhereError(f"{type(graph.network).__name__} has {len(chosen)} maps of activations, not {count}")
    return [graph.names[node] for node in chosen]


def _is_activation(graph: Graph, node: fx.Node) -> bool:
    module = graph.module(node)
    if module is not None:
        inner = getattr(module, "act", None)  # timm's normalisations with an activation
        if isinstance(inner, nn.Module) and "Norm" in type(module).__name__:
            return not isinstance(inner, nn.Identity)
        return type(module).__module__.endswith("activation") or "activations" in type(module).__module__
    return getattr(node.target, "__name__", "") in ("relu", "relu_", "silu", "hardswish", "gelu")


def _piece(nodes: Sequence[fx.Node], takes: Sequence[fx.Node], gives: Sequence[fx.Node]) -> Piece:
    operations = [
        Operation(node.name, node.op, node.target, *(fx.map_arg(one, _named) for one in (node.args, node.kwargs)))
        for node in nodes
    ]
    return Piece(tuple(operations), tuple(node.name for node in takes), tuple(node.name for node in gives))


def _named(node: fx.Node) -> Any:
    return _Value(node.name)


def _check_tensors(graph: Graph, nodes: Sequence[fx.Node]) -> None:
    """Check that what goes from piece to piece are tensors."""
    for node in nodes:
        if node.op != "placeholder" and node not in graph.shapes:
            raise WhatwhereError(
                f"{type(graph.network).__name__} cannot be cut there: {graph.names[node]!r}, which is needed on the "
                "other side, is no tensor"
            )
