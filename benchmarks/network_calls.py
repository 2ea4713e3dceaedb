"""The networks that are compared, and what is timed of them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .checking import compiled
from .contenders import timm_module, with_weights
from .peers import attach_peer

Measure = Literal["inference", "step"]
MEASURES: tuple[Measure, ...] = ("inference", "step")


class DoesNotApply(Exception):
    """There is nothing to fuse in this network. That is no failure: the contender is left out."""


@dataclass(frozen=True)
class Arm:
    """One of the networks.

    Attributes:
        kind: the attention in it, or None for the plain network.
        peer: whether it is timm's.
        fuse: whether ``whatwhere.fuse`` is called on it.
        compile: whether it is compiled.
        reference: whether whatwhere computes it in plain PyTorch.
    """

    kind: Literal["cbam", "se"] | None = None
    peer: bool = False
    fuse: bool = False
    compile: bool = False
    reference: bool = False

    @property
    def name(self) -> str:
        """Its name: ``ours-cbam+fuse+compile``."""
        who = "plain" if self.kind is None else f"{'timm' if self.peer else 'ours'}-{self.kind}"
        return who + "+reference" * self.reference + "+fuse" * self.fuse + "+compile" * self.compile

    @property
    def twin(self) -> "Arm":
        """The arm that it must agree with at first: the same network eager, unfused, and ours in plain PyTorch."""
        return Arm(self.kind, peer=self.peer, reference=self.kind is not None and not self.peer)

    def build(self, plain: nn.Module, images: Tensor) -> nn.Module:
        """Return a copy of the plain network with the attention in it, whose weights are drawn so that its gates move.

        Raises:
            DoesNotApply: there is nothing to fuse.
        """
        model = copy.deepcopy(plain)
        torch.manual_seed(0)
        layout = (
            torch.channels_last if images.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        )
        if self.peer:
            kind = str(self.kind)
            attach_peer(model, lambda channels: timm_module(kind, channels), images[:1])
        elif self.kind is not None:
            ww.insert(model, self.kind, identity=True, example=images[:1])
            for attention in ww.attentions(model).values():
                with_weights(attention, 0.1)  # gates that moved much would make a deep network at random chaotic
        if self.fuse:
            try:
                ww.fuse(model)
            except WhatwhereError as error:
                raise DoesNotApply(str(error)) from error
        return model.to(memory_format=layout)


def network_arms() -> dict[str, Arm]:
    """Return all by name, in the order of the table."""
    every = [Arm(), Arm(compile=True), Arm(fuse=True)]
    for kind in ("cbam", "se"):
        every += [Arm(kind, peer=True), Arm(kind, peer=True, compile=True)]
        every += [Arm(kind, fuse=fuse, compile=compile) for fuse in (False, True) for compile in (False, True)]
    return {arm.name: arm for arm in every}


def load_network(name: str) -> nn.Module:
    """Build a network of torchvision, or else of timm, with random weights."""
    import timm
    import torchvision

    torch.manual_seed(0)
    if name in torchvision.models.list_models(module=torchvision.models):
        return torchvision.models.get_model(name, weights=None)  # type: ignore[no-any-return]
    if not timm.is_model(name):
        raise WhatwhereError(f"--networks {name}: neither torchvision nor timm has a network of this name")
    return timm.create_model(name)  # type: ignore[no-any-return]


def network_call(arm: Arm, model: nn.Module, measure: Measure, images: Tensor) -> Callable[[], Tensor]:
    """Return the call that is timed.

    - ``inference``: a forward pass in evaluation mode, in inference mode; the call returns the scores
    - ``step``: a training step: forward, cross entropy, backward, a step of SGD with momentum, gradients to None; it
      returns the loss
    """
    run = _caller(arm, model.train(measure == "step"))
    if measure == "inference":

        def inference() -> Tensor:
            with torch.inference_mode():
                return run(images)

        return inference
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)

    def step() -> Tensor:
        loss = F.cross_entropy(run(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def _caller(arm: Arm, model: nn.Module) -> Callable[[Tensor], Tensor]:
    if arm.compile:
        return compiled(model)
    if not arm.reference:
        return model

    def in_plain_pytorch(images: Tensor) -> Tensor:
        with ww.backend("reference"):
            scores: Tensor = model(images)
        return scores

    return in_plain_pytorch
