"""Trying an attention of somebody else's out, so that what is wrong is said when it is registered and not later."""

import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .. import ops
from .attention import Attention, GatedAttention, Gates
from .recording import FACTORY, options_of_class

_METHODS = {"forward": 1, "gates": 1, "steps": 0}


def signature_faults(cls: type[Attention]) -> Iterator[str]:
    """Say which methods of an attention cannot be called as they will be."""
    for name, count in _METHODS.items():
        method = inspect.getattr_static(cls, name, None)
        if method is None or (name in ("gates", "steps") and not issubclass(cls, GatedAttention)):
            continue
        wanted = "(self, x)" if count else "(self)"
        if isinstance(method, (staticmethod, classmethod, property)) or not callable(method):
            yield f"{name} must be a method {wanted}, not a {type(method).__name__}"
            continue
        signature = inspect.signature(method)
        try:
            signature.bind(*(None,) * (1 + count))
        except TypeError:
            yield f"{name} must be a method {wanted}, not {signature}"


def trial_faults(cls: type[Any], *, least: int, divisor: int, exact: bool, any_size: bool, run: bool) -> Iterator[str]:
    """Build small ones, with and without memory for their weights, run one, and say what is wrong.

    Args:
        cls: the class; the signature of its constructor is right.
        least: the fewest channels that it takes.
        divisor: of the channels.
        exact: whether ``identity=True`` is said to return the map unchanged.
        any_size: whether it is said to take maps of every size.
        run: whether the signatures of its methods are right too, so that it can be run.
    """
    channels = divisor * -(-max(64, least) // divisor)
    made: dict[str, Attention] = {}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), ops.backend("reference"):
        warnings.simplefilter("ignore")
        for device in ("meta", "cpu"):
            chosen = {"identity": exact, "device": device, "dtype": torch.float64}
            try:
                made[device] = cls(channels, **chosen)
            except Exception as error:  # somebody else's code: anything can come
                words = ", ".join(f"{key}={value!r}" for key, value in chosen.items())
                yield (
                    f"{cls.__name__}({channels}, {words}) raises {_say(error)}: it must be possible to build it so "
                    "(min_channels= and channel_divisor= say which channels it takes)"
                )
                return
        yield from _built_faults(cls, made["meta"], made["cpu"], channels, exact)
        if run:
            layer = cls(channels, identity=exact).eval()  # whatever it makes of device and dtype
            layer.channels = channels
            yield from _run_faults(layer, channels, exact, any_size)


def _built_faults(cls: type[Attention], meta: Attention, real: Attention, channels: int, exact: bool) -> Iterator[str]:
    if getattr(real, "channels", None) != channels:
        yield "the constructor must pass the channels on: super().__init__(channels)"
    if issubclass(cls, GatedAttention) and real.identity is not exact:
        yield f"the constructor must keep the option: self.identity = identity (it was {exact}, and is {real.identity})"
    if not hasattr(real, "init_options"):
        yield "the constructor must be the class's own __init__, so that its options are recorded"
    there = [*meta.named_parameters(), *meta.named_buffers()]
    if elsewhere := [name for name, tensor in there if not tensor.is_meta]:
        yield f"the constructor must make its tensors on device=; these are not: {', '.join(elsewhere)}"
    there = [*real.named_parameters(), *real.named_buffers()]
    if other := [n for n, t in there if t.is_floating_point() and t.dtype != torch.float64]:
        yield f"the constructor must make its tensors of dtype=; these are not: {', '.join(other)}"
    defaults = {name: p.default for name, p in options_of_class(cls).items() if name not in FACTORY}
    if unkept := [name for name, value in defaults.items() if not _plain(value)]:
        yield (
            "defaults of options must be numbers, words, True, False, None or tuples of these, which a file can keep; "
            f"these are not: {', '.join(unkept)}"
        )


def _run_faults(layer: Attention, channels: int, exact: bool, any_size: bool) -> Iterator[str]:
    x = torch.randn(2, channels, 8, 12, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            gates: Any = layer.gates(x) if isinstance(layer, GatedAttention) else Gates()
            y: Any = layer(x) if isinstance(gates, Gates) else x
    except Exception as error:  # somebody else's code: anything can come
        yield f"a map {tuple(x.shape)} fails in it: {_say(error)}"
        return
    if not isinstance(gates, Gates):
        yield f"gates must return whatwhere.Gates(channel=…, spatial=… or full=…), not a {type(gates).__name__}"
        return
    if any_size:
        try:
            with torch.no_grad():
                layer(x[:, :, :1, :1])
        except Exception as error:
            yield f"a map of one pixel fails in it: {_say(error)} (any_size=False says that sides must be 8 or more)"
    if not isinstance(y, Tensor) or y.shape != x.shape:
        came = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        yield f"forward must return a map of the same shape: {tuple(x.shape)} became {came}"
    elif exact and not torch.equal(y, x):
        change = (y - x).abs().max().item()
        yield (
            f"identity=True must return the map unchanged at the start, and changes it by up to {change:.2g}: let "
            "gates be exactly 1 there (2·σ(0), say), or say exact_identity=False"
        )
    n, c, h, w = x.shape
    for name, gate, shape in zip(gates._fields, gates, ((n, c, 1, 1), (n, 1, h, w), (n, c, h, w)), strict=True):
        if gate is not None and tuple(getattr(gate, "shape", ())) != shape:
            yield f"the {name} gate for {tuple(x.shape)} must be {shape}, not {tuple(getattr(gate, 'shape', ()))}"


def _plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
