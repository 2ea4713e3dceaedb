"""The layers that are compared: whatwhere's and timm's with the same weights, and a plain copy of the map."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

import whatwhere as ww

from .checking import compiled

Kind = Literal["copy", "cbam", "se"]


@dataclass(frozen=True)
class Contender:
    """One of those that are timed.

    Attributes:
        kind: what it computes.
        peer: whether timm's module computes it.
        compile: whether it is compiled.
        reference: whether whatwhere computes it in plain PyTorch.
    """

    kind: Kind
    peer: bool = False
    compile: bool = False
    reference: bool = False

    @property
    def name(self) -> str:
        """Its name: ``ours-cbam+compile``."""
        if self.kind == "copy":
            return "copy"
        more = "+reference" * self.reference + "+compile" * self.compile
        return f"{'timm' if self.peer else 'ours'}-{self.kind}{more}"

    def module(self, channels: int) -> nn.Module:
        """Build it; all of one kind have the same weights."""
        if self.kind == "copy":
            return Copy()
        ours = with_weights(ww.create(self.kind, channels))
        return timm_twin(self.kind, ours) if self.peer else ours

    def caller(self, module: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return the function that is timed."""
        if self.compile:
            return compiled(module)
        if not self.reference:
            return module

        def in_plain_pytorch(x: Tensor) -> Tensor:
            with ww.backend("reference"):
                y: Tensor = module(x)
            return y

        return in_plain_pytorch


class Copy(nn.Module):
    """Reads a map and writes one: less than any attention does."""

    def forward(self, x: Tensor) -> Tensor:
        """Return a copy."""
        return x.clone()


def layer_contenders() -> dict[str, Contender]:
    """Return all by name, in the order of the tables."""
    every = [Contender("copy")]
    for kind in ("cbam", "se"):
        every += [Contender(kind, peer=True), Contender(kind, peer=True, compile=True), Contender(kind)]
        every += [Contender(kind, reference=True), Contender(kind, compile=True)]
    return {contender.name: contender for contender in every}


def with_weights(module: nn.Module, scale: float = 1.0) -> nn.Module:
    """Draw every parameter at random, also those that start at 0 and keep a gate constant; the same every time."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            inputs = parameter[0].numel() if parameter.dim() > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (scale / inputs**0.5))
    return module


def timm_twin(kind: str, ours: Any) -> nn.Module:
    """Return timm's module with the weights of ours, so that both compute the same numbers."""
    if kind == "se":
        theirs = timm_module("se", ours.channels)
        values = {key.removeprefix("mlp."): value for key, value in ours.state_dict().items()}
    else:
        theirs = timm_module("cbam", ours.channels)
        names = {"channel.mlp.": "channel.", "spatial.conv.": "spatial.conv.conv.", "spatial.bn.": "spatial.conv.bn."}
        values = {}
        for key, value in ours.state_dict().items():
            old = next(prefix for prefix in names if key.startswith(prefix))
            values[names[old] + key.removeprefix(old)] = value
        # [mean, max] there, [max, mean] here
        values["spatial.conv.conv.weight"] = values["spatial.conv.conv.weight"].flip(1)
    wanted = theirs.state_dict()
    theirs.load_state_dict({key: value.reshape(wanted[key].shape) for key, value in values.items()})
    return theirs


def timm_module(kind: str, channels: int) -> nn.Module:
    """Return timm's module with the widths and biases that ours has by default."""
    from timm.layers import SEModule
    from timm.layers.cbam import CbamModule

    module: nn.Module
    if kind == "se":
        module = SEModule(channels, rd_ratio=1 / 16, rd_divisor=1)
    else:
        module = CbamModule(channels, rd_ratio=1 / 16, mlp_bias=True)
    return module
