"""Which gates may be folded into the layer before them, and how that is done."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..layers import CBAM
from ..networks import remove
from .movement import Place

Part = Literal["", "all", "channel"]


@dataclass(frozen=True)
class Fold:
    """A fold to make: which part of the attention at ``place`` goes, and the gates ``(C,)`` that the layer there is multiplied by."""

    place: str
    part: Part
    gates: Tensor


def obstacle(model: nn.Module, name: str, seen: Place) -> str:
    """Say in words why the channel gates of a place cannot be folded, whatever they do; "" where they can."""
    attention = seen.attention
    if seen.calls != 1:
        return "it did not run" if seen.calls == 0 else f"it runs {seen.calls} times in a pass"
    if "full" in seen.kinds:
        return "its gate is one number for each channel and place"
    if "channel" not in seen.kinds:
        return "it has no channel gate"
    if "spatial" in seen.kinds and not (isinstance(attention, CBAM) and attention.order == "channel-spatial"):
        return "its spatial gate is made from the map before the channel gate"
    host = model.get_submodule(name)
    if host is attention:
        return "the network's own code calls it: there is no layer that it hangs on"
    if not host._forward_hooks:
        return f"it is applied to what goes into {type(host).__name__}, not to what a layer with weights gives"
    if len(host._forward_hooks) > 1 or host._forward_pre_hooks:
        return f"{type(host).__name__} has other hooks too"
    return _unfit(model, host, attention.channels)


def _unfit(model: nn.Module, host: nn.Module, channels: int) -> str:
    """Say why a layer cannot take a factor a channel; "" where it can."""
    kind = type(host).__name__
    if not isinstance(host, (nn.Conv2d, nn.modules.batchnorm._BatchNorm)):
        return f"{kind} is neither a convolution nor a batch normalisation"
    extra = [n for n, child in host.named_children() if n != "attention" and type(child) is not nn.Identity]
    if extra:
        return f"{kind} has more in it: {', '.join(extra)}"
    weight = host._parameters.get("weight")
    if weight is None or len(weight) != channels:
        return f"{kind} has no weight of its own for each channel"
    own = {id(parameter) for parameter in _factors(host)}
    users = sum(id(p) in own for module in model.modules() for p in module._parameters.values())
    return f"another module shares the weights of {kind}" if users > len(own) else ""


def scaled(host: nn.Module, gates: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
    """Return weight and bias of a layer, each with what it must become for the layer's output to be multiplied by ``gates`` (C,)."""
    found = []
    for parameter in _factors(host):
        factor = gates.to("cpu", torch.float64).view(-1, *[1] * (parameter.ndim - 1))
        found.append((parameter, (parameter.detach().cpu().double() * factor).to(parameter)))
    return found


def proportional(host: nn.Module, gates: Tensor, example: Tensor | None) -> bool:
    """Whether the layer's own output on ``example`` really is multiplied by ``gates`` when its weight and bias are; leaves it as it is."""
    if example is None:
        return False
    pairs = scaled(host, gates)
    before = [parameter.detach().clone() for parameter, _ in pairs]
    with torch.no_grad():
        plain = host.forward(example)
        try:
            _write(pairs)
            folded = host.forward(example)
        finally:
            _write([(parameter, old) for (parameter, _), old in zip(pairs, before, strict=True)])
    if not isinstance(plain, Tensor) or plain.ndim != 4:
        return False
    want = plain.double().cpu() * gates.view(1, -1, 1, 1).cpu()
    allowed = 1e3 * torch.finfo(plain.dtype).eps * float(want.abs().max())
    return bool((folded.double().cpu() - want).abs().max() <= allowed)


def apply(model: nn.Module, folds: list[Fold]) -> None:
    """Make folds. Everything that could fail comes first; then numbers are written and attentions taken out."""
    work = []
    for fold in folds:
        host = model.get_submodule(fold.place)
        kept = host.get_submodule("attention.spatial") if fold.part == "channel" else None
        work.append((host, scaled(host, fold.gates), kept))
    for host, pairs, kept in work:
        _write(pairs)
        if kept is None:
            remove(host)
        else:
            host.attention = kept


def _factors(host: nn.Module) -> list[nn.Parameter]:
    return [p for p in (host._parameters.get("weight"), host._parameters.get("bias")) if isinstance(p, nn.Parameter)]


def _write(pairs: list[tuple[nn.Parameter, Tensor]]) -> None:
    with torch.no_grad():
        for parameter, value in pairs:
            parameter.copy_(value)
