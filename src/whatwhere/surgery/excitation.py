"""Finding squeeze-and-excitation in any code, by what it computes."""

import copy
import itertools
from dataclasses import replace

import torch
from torch import Tensor, nn

from .. import ops
from ..layers import Attention, Excitation
from ..layers.gate import GATES
from ..layers.mlp import ACTIVATIONS

_MOST = 4  # a module with more layers that have weights is not examined


def excitations(model: nn.Module) -> tuple[dict[str, Excitation], dict[str, str]]:
    """Find the modules of a network that are squeeze-and-excitation, whoever wrote them.

    A module is one if it has two dense layers or 1×1 convolutions, C → hidden → C, and nothing else that learns, and if
    a copy of it with random weights gives in float64 the map times :meth:`Excitation.gates` with the same weights, for
    one of the known activations and gates.

    Returns:
        Those modules by name; and the modules that multiply each channel by a gate too but compute it otherwise, each
        with the reason.
    """
    found: dict[str, Excitation] = {}
    others: dict[str, str] = {}
    inner = [name for name, module in model.named_modules() if isinstance(module, Attention)]
    for name, module in reversed(list(model.named_modules())):  # the innermost first
        if any(name == one or name.startswith(f"{one}.") for one in inner):
            continue
        if any(other.startswith(f"{name}.") for other in (*found, *others)) or not name:
            continue
        layers = [m for m in module.modules() if next(iter(m._parameters.values()), None) is not None]
        widths = _widths(module, layers)
        twin = _twin(module) if widths else module
        got = next((y for c in widths if (y := _run(twin, c)) is not None and _gates_channels(y, c)), None)
        if got is None:
            continue
        excitation = _excitation(layers, [m for m in twin.modules() if _is_dense(m)], got)
        if excitation is not None and not list(module.buffers()):
            found[name] = excitation
        else:
            kinds = ", ".join(type(layer).__name__ for layer in layers)
            others[name] = f"{type(module).__name__} gates each channel, but its gates are made otherwise (of {kinds})"
    return dict(reversed(found.items())), dict(reversed(others.items()))


def _widths(module: nn.Module, layers: list[nn.Module]) -> list[int]:
    """Return what C may be, if a module's layers are few and small enough to be the excitation of a channel gate."""
    if not 1 <= len(layers) <= _MOST or module in layers or isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return []
    if any(isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1) for layer in layers):
        return []
    weights = [m.weight for m in layers if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))]
    taken, given = [w.shape[1] for w in weights], {w.shape[0] for w in weights}
    return [width for width in dict.fromkeys(taken) if width in given]


def _excitation(layers: list[nn.Module], drawn: list[nn.Module], got: Tensor) -> Excitation | None:
    """Return two layers as squeeze-and-excitation, if that with the weights ``drawn`` for them gives ``got``."""
    if len(layers) != 2 or len(drawn) != 2:
        return None
    x = _maps(got.shape[1])
    for first, second in ((0, 1), (1, 0)):
        parts = _flat(drawn[first]), _flat(drawn[second])
        hidden, channels = parts[0][0].shape
        if channels != x.shape[1] or parts[1][0].shape != (channels, hidden):
            continue
        for activation, gate in itertools.product(ACTIVATIONS, GATES):
            tried = Excitation(channels, hidden, activation, gate, False, ("avg",), *parts)
            with torch.no_grad(), ops.backend("reference"):
                same = torch.allclose(got, x * tried.gates(x), rtol=1e-9, atol=1e-9)
            if same:
                return replace(tried, first=_flat(layers[first]), second=_flat(layers[second]))
    return None


def _is_dense(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Linear, nn.Conv2d)) and layer._parameters.get("weight") is not None


def _flat(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    weight, bias = layer._parameters["weight"], layer._parameters.get("bias")
    assert weight is not None
    return weight.detach().flatten(1), None if bias is None else bias.detach()


def _gates_channels(got: Tensor, channels: int) -> bool:
    """Whether maps were multiplied by one number for each channel, and not by the same ones in all of them."""
    x = _maps(channels)
    if got.shape != x.shape:
        return False
    gates = (got / x).flatten(2)
    constant = torch.allclose(gates, gates[:, :, :1].expand_as(gates), rtol=1e-6, atol=1e-9)
    return constant and bool((gates[:, :, 0].std(0) > 1e-9).any())


def _twin(module: nn.Module) -> nn.Module:
    """Return a copy in float64 on the CPU, in evaluation mode, with random weights."""
    twin = copy.deepcopy(module).to("cpu", torch.float64).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in twin.parameters():
            scale = (parameter[0].numel() if parameter.ndim > 1 else 1) ** -0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return twin


def _maps(channels: int) -> Tensor:
    """Return maps of small to large numbers, enough to tell activations apart even at one hidden channel."""
    generator = torch.Generator().manual_seed(1)
    scales = torch.logspace(-0.5, 1.5, 40, dtype=torch.float64)[:, None, None, None]
    means = torch.randn(40, channels, 1, 1, generator=generator, dtype=torch.float64)
    return scales * (means + torch.randn(40, channels, 3, 4, generator=generator, dtype=torch.float64))


def _run(module: nn.Module, channels: int) -> Tensor | None:
    try:
        with torch.no_grad():
            got = module(_maps(channels))
    except Exception:  # a foreign module may raise anything; it is not squeeze-and-excitation then
        return None
    return got if isinstance(got, Tensor) and got.is_floating_point() else None
