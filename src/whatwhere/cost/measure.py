"""What a network costs: parameters, multiply-adds, time of a training step and of inference, peak memory."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .counts import count_multiply_adds, count_parameters
from .memory import peak_memory
from .stopwatch import Timing, time_in_turn


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


def measure_costs(
    models: Mapping[str, nn.Module],
    shape: tuple[int, int, int],
    *,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    channels_last: bool = False,
    amp: torch.dtype | None = None,
    seconds: float = 3.0,
    on_round: Callable[[], None] | None = None,
) -> dict[str, Cost]:
    """Measure networks in one process, in turn: each round times every network once, so that drifts hit all alike.

    Args:
        models: networks by name; copies are measured, the originals stay as they are.
        shape: (C, H, W) of an image.
        batch_size: images in a batch.
        device: by default the GPU where there is one.
        channels_last: whether weights and images are in that layout.
        amp: dtype of autocast, or None.
        seconds: roughly how long each network is timed, half of it in training and half in inference (at least 5 rounds).
        on_round: called after each round.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(batch_size, *shape, generator=torch.Generator().manual_seed(0)).to(where, memory_format=layout)
    steps: dict[str, Callable[[], Any]] = {}
    forwards: dict[str, Callable[[], Any]] = {}
    memory: dict[str, int] = {}
    counts: dict[str, tuple[int, int]] = {}
    for name, model in models.items():
        twin = copy.deepcopy(model).to(where).to(memory_format=layout)
        counts[name] = count_parameters(twin), count_multiply_adds(twin, shape)
        steps[name] = _training_step(copy.deepcopy(twin), x, amp)
        forwards[name] = _inference(twin.eval(), x, amp)
        steps[name]()
        memory[name] = peak_memory(steps[name], where)
    step = time_in_turn(steps, where, seconds / 2, on_round)
    inference = time_in_turn(forwards, where, seconds / 2, on_round)
    return {n: Cost(*counts[n], step[n], inference[n], memory[n], batch_size, str(where)) for n in models}


def _training_step(model: nn.Module, x: Tensor, amp: torch.dtype | None) -> Callable[[], None]:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)

    def step() -> None:
        with torch.autocast(x.device.type, amp, enabled=amp is not None):
            out = model(x)
        loss: Tensor = F.cross_entropy(out.float(), torch.zeros(len(x), dtype=torch.long, device=x.device))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def _inference(model: nn.Module, x: Tensor, amp: torch.dtype | None) -> Callable[[], None]:
    def forward() -> None:
        with torch.no_grad(), torch.autocast(x.device.type, amp, enabled=amp is not None):
            model(x)

    return forward
