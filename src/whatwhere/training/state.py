"""Everything that a training run is at one moment, and its way to the disk and back."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..errors import WhatwhereError
from .checkpoint import load, pack_optimizer, save, unpack_optimizer


@dataclass
class Counters:
    """The numbers of a run that its weights do not hold."""

    steps: int
    """Steps that the whole run will take."""
    step: int = 0
    """Steps done."""
    epoch: int = 0
    """Epochs done and measured."""
    best: float | None = None
    best_epoch: int = 0
    value: float | None = None
    """The headline metric after the last whole epoch, if the run is just there."""
    seconds: float = 0.0
    images: float = 0.0
    """Images seen in the epoch that is going on, and below the sums of what is logged, weighted by images."""
    sums: dict[str, float] = field(default_factory=dict)
    epoch_seconds: float = 0.0


@dataclass
class State:
    """Network, moving average, optimizer, gradient scaler and counters."""

    model: nn.Module
    ema: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scaler: Any
    counters: Counters

    @property
    def measured(self) -> nn.Module:
        """The network that is measured and kept as best: the moving average where there is one."""
        return self.model if self.ema is None else self.ema.module

    def save(self, path: Path) -> None:
        """Write the whole state."""
        tensors = {f"model.{key}": value for key, value in tensors_of(self.model).items()}
        if self.ema is not None:
            tensors.update({f"ema.{key}": value for key, value in tensors_of(self.ema).items()})
        optimizer, values = pack_optimizer(self.optimizer)
        scaler = None if self.scaler is None else self.scaler.state_dict()
        save(path, {**tensors, **optimizer}, {**asdict(self.counters), "optimizer": values, "scaler": scaler})

    def save_measured(self, path: Path, **info: Any) -> None:
        """Write only the weights that are measured, under the network's own names."""
        save(path, tensors_of(self.measured), info)

    def load(self, path: Path) -> None:
        """Go back to what :meth:`save` wrote, bit for bit.

        Raises:
            DamagedCheckpoint: the file cannot be read whole.
            WhatwhereError: it does not fit this network.
        """
        tensors, info = load(path)
        try:
            self.model.load_state_dict(_under("model.", tensors))
            if self.ema is not None:
                self.ema.load_state_dict(_under("ema.", tensors))
            unpack_optimizer(self.optimizer, tensors, info.pop("optimizer"))
            scaler = info.pop("scaler")
            if self.scaler is not None and scaler is not None:
                self.scaler.load_state_dict(scaler)
            counters = Counters(**info)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise WhatwhereError(f"{path} does not fit the network and recipe of its config.json: {error}") from error
        if counters.steps != self.counters.steps:
            raise WhatwhereError(
                f"the run in {path.parent} was going to take {counters.steps} steps, with the data as it is now it "
                f"would take {self.counters.steps}: the training images have changed, so start again in another folder"
            )
        self.counters = counters


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of ``model``.

    Raises:
        WhatwhereError: it holds something that is not a tensor, which a safetensors file cannot keep.
    """
    found = model.state_dict()
    other = [key for key, value in found.items() if not isinstance(value, Tensor)]
    if other:
        raise WhatwhereError(f"the network's state holds more than tensors ({', '.join(other)}), which cannot be saved")
    return dict(found)


def average(model: nn.Module, decay: float) -> AveragedModel:
    """Return a moving average of ``model``'s weights and buffers that follows fast at first.

    After n updates the decay is min(``decay``, (1 + n) / (10 + n)).
    """

    def update(kept: Any, new: Any, count: Tensor | int) -> None:
        n = int(count)
        share = min(decay, (1 + n) / (10 + n))
        with torch.no_grad():
            if kept[0].is_floating_point():
                torch._foreach_lerp_(kept, new, 1 - share)
            else:  # counters, such as BatchNorm's
                for old, tensor in zip(kept, new, strict=True):
                    old.copy_(tensor)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
