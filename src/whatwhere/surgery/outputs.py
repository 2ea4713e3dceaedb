"""Running a network on the probe input: its outputs, and the maps that some of its modules take."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..graph.guard import evaluation_mode
from ..graph.probe import run_on_probe


def probe_outputs(
    model: nn.Module, example: Any, watched: Mapping[str, nn.Module]
) -> tuple[list[Tensor], dict[str, tuple[int, int, int]]]:
    """Run a network on the probe input in evaluation mode.

    Returns:
        Its outputs, and the shapes (C, H, W) of the maps that the watched modules took, of those that ran.
    """
    shapes: dict[str, tuple[int, int, int]] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], Tensor) and args[0].dim() == 4:
                shapes[name] = (args[0].shape[1], args[0].shape[2], args[0].shape[3])

        return hook

    def run(arguments: tuple[Any, ...]) -> Any:
        handles = [module.register_forward_pre_hook(note(name)) for name, module in watched.items()]
        try:
            with evaluation_mode(model), torch.no_grad():
                return model(*arguments)
        finally:
            for handle in handles:
                handle.remove()

    leaves = tree_leaves(run_on_probe(model, example, run))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()], shapes
