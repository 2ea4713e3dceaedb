"""How each move is differentiated, once for the dispatcher and for the direct way.

Where a derivative is to be differentiated again (``create_graph=True``) or taken for many gradients at once
(``is_grads_batched=True``, ``vmap``), the moves answer with true gradients of x, found in plain PyTorch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import plain
from .backends import load
from .dtypes import accumulator

ops = torch.ops.whatwhere


def direct(x: Tensor) -> bool:
    """Whether a move may run without the dispatcher: a plain tensor, and nobody who watches operators."""
    return type(x) is Tensor and torch._C._len_torch_dispatch_stack() == 0


def call(name: str, x: Tensor, *args: Any) -> Any:
    """Run a pass of the backward, on the backend of the map ``x``."""
    if torch.compiler.is_compiling() or not direct(x):
        return getattr(ops, name)(*args)
    return getattr(load(x), name)(*args)


@dataclass
class Derivative:
    """A move that autograd knows.

    Attributes:
        name: of the move.
        inputs: how many arguments go to the backend; those after them are ends of a thread.
        setup: keeps what the backward needs.
        backward: as of :class:`torch.autograd.Function`.
        eager: the move with its derivative, without the dispatcher.
    """

    name: str
    inputs: int
    setup: Callable[[Any, Any, Any], None]
    backward: Callable[..., Any]
    eager: Callable[..., Any] = field(init=False)

    def __post_init__(self) -> None:
        """Make the autograd function."""

        def forward(ctx: Any, *inputs: Any) -> Any:
            output = self.forward(*inputs)
            self.setup(ctx, inputs, output)
            return output

        methods = {"forward": staticmethod(forward), "backward": staticmethod(self.backward)}
        made: Any = type(f"{self.name}_move", (torch.autograd.Function,), methods)
        self.eager = made.apply

    def forward(self, x: Tensor, *rest: Any) -> Any:
        """Run the move on the backend of the map."""
        if self.name == "open":
            return _ends(x, *rest)
        return getattr(load(x), self.name)(x, *rest[: self.inputs - 1])


def _ends(x: Tensor, shift: Tensor | None, kinds: int) -> tuple[Tensor, ...]:
    (n, c, h, w), small = x.shape, x.new_zeros(1, dtype=accumulator(x))
    shapes = ((n, c), (n, 1, h, w), (n, 2, h, w), (n, h, w), (n, c), (n, kinds, c), (n, c))
    return (x.new_zeros(1).expand(x.shape), *(small.clone().expand(shape) for shape in shapes))


def _needs_plain(grad: Tensor) -> bool:
    """Whether plain PyTorch answers a gradient: if it is differentiated again, or is a batch of gradients."""
    functorch: Any = torch._C._functorch
    if torch.is_grad_enabled():
        return True
    return bool(functorch.is_batchedtensor(grad) or functorch.is_legacy_batchedtensor(grad))


def _differentiate(function: Any, inputs: tuple[Any, ...], fixed: tuple[Any, ...], grad: Tensor) -> list[Tensor | None]:
    """Return the gradients of ``function(*inputs, *fixed)``; None for what needs none. They are differentiable in grad
    mode.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, so that the graph begins here: x must not be reached through a gate.
        fresh = [None if t is None else t.view_as(t) for t in inputs]
        output = function(*fresh, *fixed)
    wanted = [t for t in fresh if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad(output, wanted, grad, create_graph=again, allow_unused=True))
    return [next(found) if t is not None and t.requires_grad else None for t in fresh]


def _open_setup(ctx: Any, inputs: Any, output: Any) -> None:
    x, shift, ctx.kinds = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, shift)


def _open_backward(
    ctx: Any, g: Any, scale: Any, spatial: Any, lines: Any, channels: Any, lines_scale: Any, points: Any, spots: Any
) -> Any:
    x, shift = ctx.saved_tensors
    if g is None and lines is None and points is None:
        return None, None, None
    scale = lines_scale if scale is None else scale
    return call("gather", x, x, g, shift, scale, spatial, lines, channels, points, spots), None, None


def _squeeze_space_setup(ctx: Any, inputs: Any, output: Any) -> None:
    x, shift, _, ctx.kinds, ctx.peaks = inputs[:5]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, shift, output[1])


def _squeeze_space_backward(ctx: Any, grad: Any, _: Any) -> Any:
    x, shift, spots = ctx.saved_tensors
    if grad is None:
        return (None,) * 7
    if _needs_plain(grad):
        (dx,) = _differentiate(plain.squeeze_space, (x,), (shift, spots if ctx.peaks else None, ctx.kinds), grad)
        return dx, *(None,) * 6
    needs = ctx.needs_input_grad
    return *(None,) * 5, grad if needs[5] else None, spots if needs[6] and ctx.peaks else None


def _squeeze_channels_setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs[:4], output[1])


def _squeeze_channels_backward(ctx: Any, grad: Any, _: Any) -> Any:
    x, shift, scale, bias, channels = ctx.saved_tensors
    if grad is None:
        return (None,) * 7
    if _needs_plain(grad):
        dx, _, da, db = _differentiate(plain.squeeze_channels, (x, shift, scale, bias), (channels,), grad)
        return dx, None, da, db, None, None, None
    needs = ctx.needs_input_grad
    sums: Any = call("squeeze_channels_backward", x, x, shift, grad, channels) if needs[2] or needs[3] else None
    return (
        None,
        None,
        sums[:, 0] if needs[2] else None,
        sums[:, 1] if needs[3] else None,
        grad if needs[4] else None,
        channels if needs[5] else None,
        scale if needs[6] else None,
    )


def _apply_gates_setup(ctx: Any, inputs: Any, output: Tensor) -> None:
    ctx.relu = inputs[6]
    ctx.save_for_backward(*inputs[:5], output if ctx.relu else None)


def _apply_gates_backward(ctx: Any, g: Tensor) -> Any:
    x, shift, scale, bias, spatial, y = ctx.saved_tensors
    needs = ctx.needs_input_grad
    if _needs_plain(g):
        g = g if y is None else g * (y > 0)
        dx, _, da, db, ds = _differentiate(plain.apply_gates, (x, shift, scale, bias, spatial), (None, False), g)
        return dx, None, da, db, ds, g if needs[5] else None, None, None, None, None
    sums: Any = None
    spatial_sums: Any = None
    if y is not None or needs[2] or needs[3] or needs[4]:
        masked, sums, spatial_sums = call("apply_gates_backward", x, g, x, y, shift, scale, bias, spatial)
        g = g if y is None else masked
    return (
        None,
        None,
        sums[:, 0] if needs[2] else None,
        sums[:, 1] if needs[3] else None,
        spatial_sums if needs[4] else None,
        g if needs[5] else None,
        None,
        g if needs[7] else None,
        scale if needs[8] else None,
        spatial if needs[9] else None,
    )


def _filter_setup(ctx: Any, inputs: Any, output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _filter_backward(ctx: Any, g: Tensor) -> Any:
    maps, weight = ctx.saved_tensors
    if _needs_plain(g):
        return tuple(_differentiate(lambda m, w: F.conv2d(m, w, padding=w.shape[-1] // 2), (maps, weight), (), g))
    return call("filter_maps_backward", maps, g.to(maps.dtype), maps, weight)


DERIVATIVES = {
    derivative.name: derivative
    for derivative in (
        Derivative("open", 3, _open_setup, _open_backward),
        Derivative("squeeze_space", 5, _squeeze_space_setup, _squeeze_space_backward),
        Derivative("squeeze_channels", 4, _squeeze_channels_setup, _squeeze_channels_backward),
        Derivative("apply_gates", 7, _apply_gates_setup, _apply_gates_backward),
        Derivative("filter_maps", 2, _filter_setup, _filter_backward),
    )
}
