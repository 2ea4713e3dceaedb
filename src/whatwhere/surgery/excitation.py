"""Squeeze-and-excitation in anybody's code, recognised by what it computes and not by what it is called."""

import copy
import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .. import ops
from ..layers import SE, Attention
from ..layers.gate import GATES
from ..layers.mlp import ACTIVATIONS, MLP

_MOST = 4  # layers with weights that a module may have to be looked at more closely


@dataclass(frozen=True)
class Excitation:
    """The two dense layers between a squeeze and a channel gate, wherever they came from.

    Attributes:
        channels: C of the maps.
        hidden: width between the layers.
        activation: as in :class:`whatwhere.SE`.
        gate: likewise.
        identity: whether the gate is 2·g(z), as with the identity start, rather than g(z).
        pools: the squeezes.
        first: weight ``(hidden, C)`` and bias, or None.
        second: weight ``(C, hidden)`` and bias, or None.
    """

    channels: int
    hidden: int
    activation: str
    gate: str
    identity: bool
    pools: tuple[str, ...]
    first: tuple[Tensor, Tensor | None]
    second: tuple[Tensor, Tensor | None]

    @property
    def bias(self) -> bool:
        """Whether either layer has a bias."""
        return self.first[1] is not None or self.second[1] is not None

    def write(self, mlp: MLP) -> bool:
        """Copy the weights into an MLP; return whether they have its shapes."""
        pairs = ((mlp.fc1, *self.first), (mlp.fc2, *self.second))
        if any(
            layer.weight.shape != weight.shape or (b is not None and layer.bias is None) for layer, weight, b in pairs
        ):
            return False
        with torch.no_grad():
            for layer, weight, bias in pairs:
                layer.weight.copy_(weight)
                if layer.bias is not None:
                    layer.bias.zero_() if bias is None else layer.bias.copy_(bias)
        return True


def excitations(model: nn.Module) -> tuple[dict[str, Excitation], dict[str, str]]:
    """Find the modules of a network that are squeeze-and-excitation, in whosever code.

    A module is one if it has two dense layers or 1×1 convolutions, C → hidden → C, and nothing else that learns, and if a copy of it with
    random weights gives in float64 what :class:`whatwhere.SE` with the same weights gives, for one of its activations and gates.

    Returns:
        Those modules by name; and those that multiply each channel by a gate too but compute it otherwise, each with what is known.
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


def of_attention(attention: Attention) -> Excitation | None:
    """Return the excitation of an attention from here; None where it has no such layers."""
    mlps = [(m, part) for m in attention.modules() for part in m.children() if isinstance(part, MLP)]
    if len(mlps) != 1:
        return None
    owner, mlp = mlps[0]
    return Excitation(
        attention.channels,
        mlp.fc1.out_features,
        mlp.activation,
        str(owner.gate),
        bool(owner.identity),
        tuple(owner.pools),  # type: ignore[arg-type]
        (mlp.fc1.weight, mlp.fc1.bias),
        (mlp.fc2.weight, mlp.fc2.bias),
    )


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
    """Return what layers are as squeeze-and-excitation, if with the weights that were drawn for them ``got`` is what it gives."""
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
            ours = SE(channels, hidden=hidden, activation=activation, gate=gate, bias=tried.bias).double()
            tried.write(ours.mlp)
            with torch.no_grad(), ops.backend("reference"):
                same = torch.allclose(got, ours(x), rtol=1e-9, atol=1e-9)
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
    """Return a copy in float64 on the CPU, in evaluation mode, with random weights large enough for every kink to be met."""
    twin = copy.deepcopy(module).to("cpu", torch.float64).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in twin.parameters():
            scale = (parameter[0].numel() if parameter.ndim > 1 else 1) ** -0.5
            parameter.copy_(3 * scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return twin


def _maps(channels: int) -> Tensor:
    """Return some maps, small numbers to large ones, with a mean of its own for each channel."""
    generator = torch.Generator().manual_seed(1)
    scales = torch.logspace(-0.5, 1.5, 12, dtype=torch.float64)[:, None, None, None]
    means = torch.randn(12, channels, 1, 1, generator=generator, dtype=torch.float64)
    return scales * (means + torch.randn(12, channels, 4, 6, generator=generator, dtype=torch.float64))


def _run(module: nn.Module, channels: int) -> Tensor | None:
    try:
        with torch.no_grad():
            got = module(_maps(channels))
    except Exception:  # whatever a foreign module makes of a map: it is not squeeze-and-excitation then
        return None
    return got if isinstance(got, Tensor) and got.is_floating_point() else None
