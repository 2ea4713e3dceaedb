"""Which gates may be folded into the layer beside them, and the folding itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..layers import Attention, GatedAttention
from ..surgery.attach import attached_side, detach, replace_module
from ..surgery.neighbours import Neighbour
from .movement import SiteMovement

Part = Literal["", "all", "channel"]


@dataclass(frozen=True)
class Fold:
    """A fold to make.

    Attributes:
        module: the site of the attention.
        part: the part of it that goes.
        gates: ``(C,)``, what the layer beside it is multiplied by.
        into: that layer.
    """

    module: str
    part: Part
    gates: Tensor
    into: Neighbour


def beside(model: nn.Module, name: str, around: dict[str, list[Neighbour]]) -> list[Neighbour]:
    """Return the layers that the gates at a site could go into, those in front of them first."""
    side = attached_side(model.get_submodule(name))
    if side is None:
        return around.get(name, [])
    return [Neighbour(name, "before")] if side == "output" else []


def obstacle(model: nn.Module, name: str, seen: SiteMovement) -> str:
    """Say why the channel gates of a site cannot be folded, whatever is beside it; "" if they can."""
    if seen.calls != 1:
        return "it did not run" if seen.calls == 0 else f"it runs {seen.calls} times in a pass"
    if "full" in seen.kinds:
        return "its gate is one number for each channel and position"
    if "channel" not in seen.kinds:
        return "it has no channel gate"
    if "spatial" in seen.kinds and seen.attention.after_channel_gate() is None:
        return "its spatial gate is made from the map before the channel gate"
    host = model.get_submodule(name)
    if attached_side(host) == "input":
        return f"it is applied to what goes into {type(host).__name__}, not to what a layer with weights gives"
    if attached_side(host) == "nhwc":
        return f"{type(host).__name__} gives its maps channels-last"
    return ""


def choose(model: nn.Module, seen: SiteMovement, layers: Sequence[Neighbour]) -> tuple[Neighbour | None, str]:
    """Return the first of some layers that can take a factor for each channel, or why none can."""
    reasons = []
    for one in layers:
        if one.side == "after" and "spatial" in seen.kinds:
            reasons.append("its spatial gate is made from the map after the channel gate")
            continue
        reason = _unfit(model, model.get_submodule(one.layer), seen.attention, one.side)
        if not reason:
            return one, ""
        reasons.append(reason)
    nothing = (
        "the network's own code calls it, and no layer alone makes its map, nor a convolution alone takes what it gives"
    )
    return None, reasons[0] if reasons else nothing


def _unfit(model: nn.Module, layer: nn.Module, attention: Attention, side: str) -> str:
    """Say why a layer cannot take a factor for each channel; "" if it can."""
    kind = type(layer).__name__
    fits = (nn.Conv2d,) if side == "after" else (nn.Conv2d, nn.modules.batchnorm._BatchNorm)
    if not isinstance(layer, fits):
        return f"{kind} is neither a convolution nor a batch normalisation"
    if len(layer._forward_hooks) > (attached_side(layer) is not None and side == "before") or layer._forward_pre_hooks:
        return f"{kind} has other hooks too"
    extra = [n for n, child in layer.named_children() if n != "attention" and type(child) is not nn.Identity]
    if extra:
        return f"{kind} has more in it: {', '.join(extra)}"
    weight = layer._parameters.get("weight")
    width = None if weight is None else layer.in_channels if side == "after" else len(weight)
    if width != attention.channels:
        return f"{kind} has no weight of its own for each channel"
    own = {id(parameter) for parameter in _factors(layer, side)}
    users = sum(id(p) in own for module in model.modules() for p in module._parameters.values())
    return f"another module shares the weights of {kind}" if users > len(own) else ""


def scaled(layer: nn.Module, gates: Tensor, side: str) -> list[tuple[nn.Parameter, Tensor]]:
    """Return the parameters of a layer with the values that multiply its output or input by ``gates``."""
    found = []
    for parameter in _factors(layer, side):
        factor = gates.to("cpu", torch.float64)
        if side == "after":
            assert isinstance(layer, nn.Conv2d)
            each = factor.view(layer.groups, 1, -1).expand(-1, layer.out_channels // layer.groups, -1)
            factor = each.reshape(layer.out_channels, -1, 1, 1)
        else:
            factor = factor.view(-1, *[1] * (parameter.ndim - 1))
        found.append((parameter, (parameter.detach().cpu().double() * factor).to(parameter)))
    return found


def proportional(layer: nn.Module, gates: Tensor, example: Tensor | None, side: str) -> bool:
    """Whether changing the parameters for ``gates`` does what it should on ``example``. The layer stays as it is."""
    if example is None or example.ndim != 4:
        return False
    pairs = scaled(layer, gates, side)
    before = [parameter.detach().clone() for parameter, _ in pairs]
    factor = gates.to(example).view(1, -1, 1, 1)
    with torch.no_grad():
        plain = layer.forward(example * factor if side == "after" else example)
        try:
            _write(pairs)
            folded = layer.forward(example)
        finally:
            _write([(parameter, old) for (parameter, _), old in zip(pairs, before, strict=True)])
    if not isinstance(plain, Tensor) or plain.ndim != 4:
        return False
    want = plain.double().cpu() * (1 if side == "after" else gates.view(1, -1, 1, 1).cpu())
    allowed = 1e3 * torch.finfo(plain.dtype).eps * float(want.abs().max())
    return bool((folded.double().cpu() - want).abs().max() <= allowed)


def apply(model: nn.Module, folds: list[Fold]) -> None:
    """Make folds. What could fail comes first; then parameters are written and attentions removed."""
    work = []
    for fold in folds:
        host = model.get_submodule(fold.module)
        attention = host if isinstance(host, Attention) else host.get_submodule("attention")
        assert isinstance(attention, GatedAttention)
        kept = attention.after_channel_gate() if fold.part == "channel" else None
        work.append((host, scaled(model.get_submodule(fold.into.layer), fold.gates, fold.into.side), kept))
    for host, pairs, kept in work:
        _write(pairs)
        if isinstance(host, Attention):
            replace_module(model, host, nn.Identity() if kept is None else kept)
        elif kept is None:
            detach(host)
        else:
            host.attention = kept


def _factors(layer: nn.Module, side: str) -> list[nn.Parameter]:
    names = ("weight",) if side == "after" else ("weight", "bias")
    return [p for name in names if isinstance(p := layer._parameters.get(name), nn.Parameter)]


def _write(pairs: list[tuple[nn.Parameter, Tensor]]) -> None:
    with torch.no_grad():
        for parameter, value in pairs:
            parameter.copy_(value)
