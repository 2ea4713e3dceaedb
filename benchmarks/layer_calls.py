"""What is timed of a layer: a forward pass without gradients, and a forward pass with the backward pass."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .contenders import Contender
from .setting import MEMORY_FORMATS, MemoryFormat

Measure = Literal["forward", "forward+backward"]
MEASURES: tuple[Measure, ...] = ("forward", "forward+backward")


@dataclass(frozen=True)
class Map:
    """The map that a layer gets: ``(batch, channels, height, width)`` in a layout and dtype, the same numbers every
    time.
    """

    batch: int
    channels: int
    height: int
    width: int
    layout: MemoryFormat
    dtype: torch.dtype
    device: torch.device

    @property
    def shape(self) -> str:
        """Its shape without the batch, for tables."""
        return f"{self.channels}×{self.height}×{self.width}"

    def row(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "batch": self.batch,
            "channels": self.channels,
            "height": self.height,
            "width": self.width,
            "shape": self.shape,
            "layout": self.layout,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def draw(self, seed: int) -> Tensor:
        """Draw the map, or the gradient of the result."""
        shape = (self.batch, self.channels, self.height, self.width)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return x.to(self.device, self.dtype).contiguous(memory_format=MEMORY_FORMATS[self.layout])

    def prepare(self, module: nn.Module) -> nn.Module:
        """Move a module to where the map is, in its dtype and layout."""
        return module.to(self.device, self.dtype).to(memory_format=MEMORY_FORMATS[self.layout])


def layer_call(contender: Contender, what: Map, measure: Measure, x: Tensor, g: Tensor) -> Callable[[], Tensor]:
    """Return the call that is timed.

    Args:
        contender: what to build.
        what: the map's description.
        measure: ``forward``: in evaluation mode, in inference mode. ``forward+backward``: in training mode, gradients
            of the map and of all parameters, set to None before.
        x: the map.
        g: the gradient of the result.

    Returns:
        A function that returns the result of the layer, or the gradient of the map.
    """
    module = what.prepare(contender.module(what.channels))
    if measure == "forward":
        run = contender.caller(module.eval())

        def forward() -> Tensor:
            with torch.inference_mode():
                return run(x)

        return forward
    run = contender.caller(module.train())
    parameters = list(module.parameters())
    leaf = x.detach().requires_grad_()

    def forward_and_backward() -> Tensor:
        leaf.grad = None
        for parameter in parameters:
            parameter.grad = None
        run(leaf).backward(g)  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        return leaf.grad

    return forward_and_backward


def expected_results(
    what: Map, measure: Measure, contenders: Sequence[Contender], x: Tensor, g: Tensor
) -> dict[str, Tensor]:
    """Return by name what the contenders are to compute: what whatwhere computes in plain PyTorch (nothing where that
    fails).
    """
    expected: dict[str, Tensor] = {}
    for kind in dict.fromkeys(c.kind for c in contenders):
        definition = Contender(kind, reference=kind != "copy")
        with suppress(Exception):
            result = layer_call(definition, what, measure, x, g)()
            expected |= {c.name: result for c in contenders if c.kind == kind}
    return expected
