"""The operations of a network, recorded by torch.fx."""

import warnings
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..errors import WhatwhereError, closest, need
from .guard import evaluation_mode


class Graph:
    """The operations of a network, recorded by ``torch.fx``, with the names of the modules that they belong to.

    Args:
        network: any network that torch.fx can follow, such as the convolutional ones of timm and torchvision, in
            evaluation mode.
        example: an image to run through it once, ``(N, 3, H, W)``. With another height than width, maps in the
            channels-last order are told from others.

    Attributes:
        shapes: of the values that are tensors, by node.

    Raises:
        WhatwhereError: what the network does depends on the values of its input, so that torch.fx cannot follow it.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> graph = Graph(net, torch.zeros(1, 3, 9, 9))
        >>> [(point, tuple(graph.shapes[graph.node(point)])) for point in ("1", "2")]
        [('1', (1, 8, 7, 7)), ('2', (1, 4, 5, 5))]
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        extraction = need("torchvision.models.feature_extraction", extra="train")
        layers = need("timm.layers", extra="train")
        leaves = [*layers.get_notrace_modules(), *_own_leaves(network)]
        tracer = extraction.NodePathTracer(
            autowrap_functions=tuple(layers.get_notrace_functions()), leaf_modules=leaves
        )
        self.network = network
        self.image: tuple[int, int] = (int(example.shape[2]), int(example.shape[3]))
        with evaluation_mode(network):
            try:
                self.graph: fx.Graph = tracer.trace(network)
            except Exception as error:
                raise WhatwhereError(
                    f"torch.fx cannot follow {type(network).__name__}: {type(error).__name__}: {error}. Take a network "
                    "whose steps do not depend on the values of the image"
                ) from error
            runner = _Shapes(fx.GraphModule(network, self.graph))
            with torch.no_grad():
                runner.run(example)
        names: dict[fx.Node, str] = tracer.node_to_qualname
        self.nodes = [node for node in self.graph.nodes if node.op not in ("placeholder", "output")]
        self.names = {node: names.get(node, node.name) for node in self.nodes}  # constants have no path
        self.shapes: dict[fx.Node, torch.Size] = {
            node: runner.shapes[node.name] for node in self.nodes if node.name in runner.shapes
        }
        self._above: dict[fx.Node, set[fx.Node]] = {}
        for node in self.graph.nodes:
            self._above[node] = {node}.union(*(self._above[parent] for parent in node.all_input_nodes))

    def node(self, name: str) -> fx.Node:
        """Return the node that gives the output of a module, or a node by its own name.

        Raises:
            WhatwhereError: nothing in the network has this name.
        """
        exact = [node for node in self.nodes if self.names[node] == name]
        found = exact or [node for node in self.nodes if self.names[node].startswith(f"{name}.")]
        if not found:
            known = self.maps()
            raise WhatwhereError(
                f"{type(self.network).__name__} has no map {name!r}. Its last maps are "
                f"{', '.join(known[-8:])}{closest(name, known)}"
            )
        node: fx.Node = found[-1]
        return node

    def maps(self) -> list[str]:
        """Return the names of all feature maps, ``(N, C, H, W)`` with more than one position, in order."""
        return [self.names[node] for node in self.nodes if self.is_map(node)]

    def is_map(self, node: fx.Node) -> bool:
        """Whether a node is a feature map with more than one position: its height and width are in the proportion of
        the image's.
        """
        shape = self.shapes.get(node, ())
        if len(shape) != 4 or shape[2] * shape[3] <= 1:
            return False
        height, width = self.image
        return abs(shape[2] * width / height - shape[3]) <= 1

    def needs(self, node: fx.Node, other: fx.Node) -> bool:
        """Whether a node is made from another one, or is it."""
        return other in self._above[node]

    def ancestors(self, node: fx.Node) -> set[fx.Node]:
        """Return everything that a node is made from, and itself."""
        return self._above[node]

    def module(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a node calls."""
        return self.network.get_submodule(str(node.target)) if node.op == "call_module" else None

    def learns(self, node: fx.Node) -> bool:
        """Whether the node itself has a parameter that is trained."""
        if node.op == "get_attr":
            owner, _, name = str(node.target).rpartition(".")
            value = getattr(self.network.get_submodule(owner), name)
            return isinstance(value, Tensor) and value.requires_grad
        module = self.module(node)
        return module is not None and any(parameter.requires_grad for parameter in module.parameters())


def _own_leaves(network: nn.Module) -> list[type[nn.Module]]:
    """Return the classes of whatwhere's layers in a network: each is one operation."""
    return list(
        {type(module) for module in network.modules() if type(module).__module__.startswith("whatwhere.layers")}
    )


class _Shapes(fx.Interpreter):
    """Runs a graph and keeps the shapes of its tensors, by the nodes' names."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[str, torch.Size] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n.name] = result.shape
        return result
