"""The moves: what a backend computes, as PyTorch operators ``whatwhere::*`` with their derivatives.

Per channel and per position; what is None is left out:

    w = x - shift               shift (C)
    v = w · scale + bias        scale, bias (N, C)
    y = relu(v · spatial + residual)

    squeeze_space     (N, kinds, C): mean of w; w where sign·w is greatest; mean of w² (as many as ``kinds``);
                      and that position in H·W, (N, C)
    squeeze_channels  (N, 2, H, W): greatest v, mean of v; and the channel of the greatest, (N, H, W)
    apply_gates       y
    filter_maps       the convolution of spatial attention, same size, no bias
    glance            (CPU only) squeezes, weighings and apply_gates of a whole attention image by image,
                      where no gradient is asked for
    apply_gates_backward, squeeze_channels_backward, gather, filter_maps_backward: the passes of the backward

In a tie the first wins; NaN is greater than all. Maps are float32, float16, bfloat16 or float64; what is small is
float32, for float64 maps float64.

**One pass writes the gradient.** The gradient of x comes from up to three moves: from ``apply_gates`` (scale · g ·
spatial), from ``squeeze_channels`` (scale · (the mean's + [c is the greatest] · the peak's)) and from ``squeeze_space``
(the mean's + [the position is the greatest] · the peak's + 2 w · the squares'). To add three maps up would take nine
walks over a map. So x goes into the graph once, through ``open``, which gives a *thread* of empty tensors; each move
takes the ends of the thread that are its own and answers in the backward not with a gradient of x but with the factors
of its part, all small but g. Autograd calls the backward of ``open`` when all of them have answered, and ``gather``
writes the whole gradient in one pass. The answers are no gradients of anything, so threads do not leave this package.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .backends import BACKENDS, load
from .derivatives import DERIVATIVES, direct, ops
from .dtypes import accumulator

_SCHEMAS = {
    "open": "(Tensor x, Tensor? shift, int kinds) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    "squeeze_space": (
        "(Tensor x, Tensor? shift, Tensor? sign, int kinds, bool peaks, Tensor? points, Tensor? spots) "
        "-> (Tensor, Tensor)"
    ),
    "squeeze_channels": (
        "(Tensor x, Tensor? shift, Tensor? scale, Tensor? bias, Tensor? lines, Tensor? channels, Tensor? lines_scale) "
        "-> (Tensor, Tensor)"
    ),
    "apply_gates": (
        "(Tensor x, Tensor? shift, Tensor? scale, Tensor? bias, Tensor? spatial, Tensor? residual, bool relu, "
        "Tensor? map, Tensor? scale_end, Tensor? spatial_end) -> Tensor"
    ),
    "filter_maps": "(Tensor maps, Tensor weight) -> Tensor",
    "apply_gates_backward": (
        "(Tensor g, Tensor x, Tensor? y, Tensor? shift, Tensor? scale, Tensor? bias, Tensor? spatial) "
        "-> (Tensor, Tensor, Tensor)"
    ),
    "squeeze_channels_backward": "(Tensor x, Tensor? shift, Tensor lines, Tensor channels) -> Tensor",
    "gather": (
        "(Tensor like, Tensor? g, Tensor? shift, Tensor? scale, Tensor? spatial, Tensor? lines, Tensor? channels, "
        "Tensor? points, Tensor? spots) -> Tensor"
    ),
    "filter_maps_backward": "(Tensor g, Tensor maps, Tensor weight) -> (Tensor, Tensor)",
    "glance": (
        "(Tensor x, Tensor? a, Tensor? b, Tensor?[] dense, int[] channel, Tensor[] convolution, int[] spatial, "
        "float[] factors, Tensor? residual, bool relu) -> Tensor"
    ),
}
_library: Any = torch.library.Library("whatwhere", "DEF")  # type: ignore[no-untyped-call]
for _name, _schema in _SCHEMAS.items():
    _library.define(_name + _schema)


class Thread(NamedTuple):
    """Where the parts of one map's gradient come together: empty tensors in the shape of what is answered."""

    map: Tensor | None = None  # g, like x
    scale: Tensor | None = None  # (N, C), of apply_gates
    spatial: Tensor | None = None  # (N, 1, H, W)
    lines: Tensor | None = None  # (N, 2, H, W): d peak, d mean
    channels: Tensor | None = None  # (N, H, W)
    lines_scale: Tensor | None = None  # (N, C), of squeeze_channels: the same as apply_gates's, if that answers as well
    points: Tensor | None = None  # (N, kinds, C): d mean, d peak, d squares
    spots: Tensor | None = None  # (N, C)


def open_map(x: Tensor, shift: Tensor | None = None, kinds: int = 2) -> Thread:
    """Put a map into the graph; a thread without ends where nothing will be asked of it."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return Thread()
    return Thread(*_run("open", x, shift, kinds))


def squeeze_space(
    x: Tensor, shift: Tensor | None, sign: Tensor | None, kinds: int, peaks: bool, thread: Thread
) -> Tensor:
    """Return ``(N, kinds, C)``; see the head of this module."""
    values: Tensor = _run("squeeze_space", x, shift, sign, kinds, peaks, thread.points, thread.spots)[0]
    return values


def squeeze_channels(
    x: Tensor, shift: Tensor | None, scale: Tensor | None, bias: Tensor | None, thread: Thread
) -> Tensor:
    """Return ``(N, 2, H, W)``; see the head of this module."""
    ends = (thread.lines, thread.channels, thread.lines_scale)
    values: Tensor = _run("squeeze_channels", x, shift, scale, bias, *ends)[0]
    return values


def apply_gates(
    x: Tensor,
    shift: Tensor | None,
    scale: Tensor | None,
    bias: Tensor | None,
    spatial: Tensor | None,
    residual: Tensor | None,
    relu: bool,
    thread: Thread,
) -> Tensor:
    """Return y; see the head of this module."""
    ends = (thread.map, thread.scale, thread.spatial)
    y: Tensor = _run("apply_gates", x, shift, scale, bias, spatial, residual, relu, *ends)
    return y


def filter_maps(maps: Tensor, weight: Tensor) -> Tensor:
    """Return the convolution of ``(N, P, H, W)`` with ``(1, P, k, k)``."""
    filtered: Tensor = _run("filter_maps", maps, weight)
    return filtered


def glance(x: Tensor, *args: Any) -> Tensor:
    """Run a whole attention without gradients; see :mod:`whatwhere.ops.glance`."""
    whole: Any = ops.glance if torch.compiler.is_compiling() or not direct(x) else load(x).glance
    y: Tensor = whole(x, *args)
    return y


def _run(name: str, x: Tensor, *args: Any) -> Any:
    """Run a move: through the dispatcher where a graph is being made or a mode looks on, else without its detours."""
    if torch.compiler.is_compiling() or not direct(x):
        return getattr(ops, name)(x, *args)
    return DERIVATIVES[name].eager(x, *args)


# Shapes, for tracing


def _small(x: Tensor, *shape: int) -> Tensor:
    return x.new_empty(shape, dtype=accumulator(x))


def _space_fake(x: Tensor, shift: Any, sign: Any, kinds: int, peaks: bool, *rest: Any) -> Any:
    return _small(x, x.shape[0], kinds, x.shape[1]), _small(x, x.shape[0] if peaks else 0, x.shape[1])


def _channels_fake(x: Tensor, *rest: Any) -> Any:
    n, _, h, w = x.shape
    return _small(x, n, 2, h, w), _small(x, n, h, w)


def _like_fake(x: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(x)


def _apply_gates_backward_fake(g: Tensor, x: Tensor, y: Any, shift: Any, scale: Any, bias: Any, spatial: Any) -> Any:
    n, c, h, w = x.shape
    masked = x.new_empty((0,)) if y is None else torch.empty_like(x)
    return masked, _small(x, n, 2, c), _small(x, 0) if spatial is None else _small(x, n, 1, h, w)


def _filter_fake(maps: Tensor, weight: Tensor) -> Tensor:
    return maps.new_empty(maps.shape[0], weight.shape[0], *maps.shape[2:])


_FAKES: dict[str, Any] = {
    "open": DERIVATIVES["open"].forward,
    "squeeze_space": _space_fake,
    "squeeze_channels": _channels_fake,
    "apply_gates": _like_fake,
    "apply_gates_backward": _apply_gates_backward_fake,
    "squeeze_channels_backward": lambda x, *rest: _small(x, x.shape[0], 2, x.shape[1]),
    "gather": _like_fake,
    "filter_maps": _filter_fake,
    "glance": _like_fake,
    "filter_maps_backward": lambda g, maps, weight: (maps.new_empty(maps.shape), weight.new_empty(weight.shape)),
}
for _name, _fake in _FAKES.items():
    torch.library.register_fake(f"whatwhere::{_name}", _fake, lib=_library)


# Backends


def _runner(backend: str, name: str) -> Any:
    """Return what runs a move; the ends of threads do not go to the backend."""
    count = DERIVATIVES[name].inputs if name in DERIVATIVES else None

    def run(*args: Any) -> Any:
        return getattr(BACKENDS[backend].load(), name)(*args[:count])

    return run


for _backend in BACKENDS.values():
    _key = _backend.device.upper()
    for _name in _SCHEMAS if _backend.name == "cpu" else [name for name in _SCHEMAS if name != "glance"]:
        _library.impl(_name, DERIVATIVES["open"].forward if _name == "open" else _runner(_backend.name, _name), _key)

for _name, _derivative in DERIVATIVES.items():
    torch.library.register_autograd(
        f"whatwhere::{_name}", _derivative.backward, setup_context=_derivative.setup, lib=_library
    )
