"""What a network costs: parameters, multiply-adds, time of a training step and of inference, peak memory."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from ..graph.guard import evaluation_mode
from .counts import count_parameters, counting
from .memory import peak_memory
from .stopwatch import Timing, time_in_turn

Loss = Callable[[nn.Module, Any], Tensor]
"""From a network and a batch to the loss that a training step differentiates."""
Predict = Callable[[nn.Module, Any], Any]
"""The work of one inference, from a network and a batch."""


@dataclass(frozen=True)
class Cost:
    """What one network costs. Times and memory are of one batch.

    Attributes:
        parameters: trainable and frozen numbers.
        multiply_adds: of one image, counted by torch for convolutions and matrix products.
        step: a training step: forward, loss, backward, optimizer.
        inference: a forward in eval mode without gradients.
        memory: most bytes that a training step had allocated at one time beyond what was there before it
            (maps kept for the backward pass, gradients, temporaries).
        batch_size: images in the batch.
        device: where it was measured.
    """

    parameters: int
    multiply_adds: int
    step: Timing
    inference: Timing
    memory: int
    batch_size: int
    device: str


def classification_loss(model: nn.Module, images: Tensor) -> Tensor:
    """Return the cross entropy of a classifier on images ``(N, C, H, W)``, all of class 0."""
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    return F.cross_entropy(model(images).float(), labels)


def call(model: nn.Module, batch: Any) -> Any:
    """Return ``model(batch)``."""
    return model(batch)


def measure_costs(
    models: Mapping[str, nn.Module],
    batch: Any,
    images: int,
    *,
    loss: Loss = classification_loss,
    predict: Predict = call,
    device: str | torch.device | None = None,
    channels_last: bool = False,
    amp: torch.dtype | None = None,
    seconds: float = 3.0,
    on_round: Callable[[], None] | None = None,
) -> dict[str, Cost]:
    """Measure networks in one process, in turn: each round times every network once, so that drifts affect all alike.

    Args:
        models: networks by name; copies are measured, the originals stay as they are.
        batch: what ``loss`` and ``predict`` take, on ``device`` and in the memory format in which it is to be measured;
            by default images ``(N, C, H, W)`` for a classifier.
        images: how many images the batch has.
        loss: what a training step computes: forward and loss.
        predict: what an inference computes.
        device: where the networks are measured; by default the GPU where there is one.
        channels_last: whether the weights are in the channels-last format.
        amp: dtype of autocast, or None.
        seconds: roughly how long each network is timed, half of it in training and half in inference (at least 5
            rounds).
        on_round: called after each round.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> measure_costs({"a": model}, torch.randn(2, 3, 8, 8), 2, device="cpu", seconds=0)["a"].parameters
        112
    """
    where = default_device(device)
    weights = torch.channels_last if channels_last else torch.contiguous_format
    steps: dict[str, Callable[[], Any]] = {}
    forwards: dict[str, Callable[[], Any]] = {}
    memory: dict[str, int] = {}
    counts: dict[str, tuple[int, int]] = {}
    for name, model in models.items():
        twin = copy.deepcopy(model).to(where).to(memory_format=weights)
        counts[name] = count_parameters(twin), multiply_adds_of(twin, batch, predict) // images
        steps[name] = _training_step(copy.deepcopy(twin), batch, loss, where, amp)
        forwards[name] = _inference(twin.eval(), batch, predict, where, amp)
        steps[name]()
        memory[name] = peak_memory(steps[name], where)
    step = time_in_turn(steps, where, seconds / 2, on_round)
    inference = time_in_turn(forwards, where, seconds / 2, on_round)
    return {n: Cost(*counts[n], step[n], inference[n], memory[n], images, str(where)) for n in models}


def default_device(device: str | torch.device | None = None) -> torch.device:
    """Return the device itself, or the GPU where there is one, or the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def multiply_adds_of(model: nn.Module, batch: Any, predict: Predict) -> int:
    """Return the multiply-adds of ``predict(model, batch)`` in evaluation mode, of convolutions and matrix products."""
    with evaluation_mode(model), torch.no_grad(), ops.backend("reference"), counting() as counted:
        predict(model, batch)
    return counted()


def _training_step(
    model: nn.Module, batch: Any, loss: Loss, device: torch.device, amp: torch.dtype | None
) -> Callable[[], None]:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)

    def step() -> None:
        with torch.autocast(device.type, amp, enabled=amp is not None):
            value = loss(model, batch)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def _inference(
    model: nn.Module, batch: Any, predict: Predict, device: torch.device, amp: torch.dtype | None
) -> Callable[[], None]:
    def forward() -> None:
        with torch.no_grad(), torch.autocast(device.type, amp, enabled=amp is not None):
            predict(model, batch)

    return forward
