"""How to train: the recipe's numbers, their checks, the schedule, and the optimizer they describe."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from ..errors import WhatwhereError


@dataclass(frozen=True)
class Recipe:
    """How to train a network, the same for every task.

    All numbers are checked when the recipe is made; everything that is wrong is listed in one error.

    Example:
        >>> Recipe(optimizer="sgd", lr=0.1, weight_decay=1e-4, epochs=90).batch_size
        32

    Raises:
        WhatwhereError: one or more values are not possible.
    """

    epochs: int = 5
    """How many times every training image is seen."""
    batch_size: int = 32
    """Images a step, all processes together (fewer where there are fewer images)."""
    optimizer: Literal["adamw", "sgd", "adadelta"] = "adamw"
    """AdamW, SGD with Nesterov momentum, or Adadelta (ρ 0.95, ε 1e-6; its lr is usually 1)."""
    lr: float = 3e-3
    """Highest learning rate: reached at the end of the warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: a cosine down to zero, or the same learning rate to the end."""
    weight_decay: float = 0.05
    """Decay of weights with two or more dimensions; norms, biases and other vectors are left alone."""
    momentum: float = 0.9
    """Momentum of SGD, or the first beta of AdamW."""
    warmup: float = 0.1
    """Share of all steps over which the learning rate rises from zero, from 0 up to 1."""
    clip: float = 1.0
    """Largest norm of the whole gradient; longer gradients are scaled down to it. 0 switches it off."""
    ema: float = 0.0
    """Decay of the weights' moving average, which is then measured and kept as best. 0 switches it off."""
    amp: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision; fp16 (with gradient scaling) needs a GPU."""
    channels_last: bool = True
    """Keep weights and images in the channels-last memory format, in which most convolutions are faster."""
    compile: bool = False
    """Compile the network with torch.compile."""
    seed: int = 0
    """First weights, data order, augmentation and dropout are pure functions of this seed, the epoch and the step."""
    workers: int = 0
    """Processes that load images; 0 loads in the training process. Does not change the result."""
    threads: int | None = None
    """CPU threads of each process; by default as many as torch takes. Another number may change the last bits."""
    device: Literal["auto", "cpu"] = "auto"
    """Train on the accelerator where there is one, or stay on the CPU."""
    save_every: int = 0
    """Also keep a checkpoint after every so many steps; 0: only at the end of each epoch, as tar files need it."""
    log_every: int = 50
    """Write a line with loss, learning rate and gradient norm after every so many steps; 0: only after each epoch."""

    def __post_init__(self) -> None:
        problems = [problem for problem in self._problems() if problem]
        if problems:
            raise WhatwhereError("this recipe cannot be trained:\n" + "\n".join(f"  - {line}" for line in problems))

    def _problems(self) -> list[str]:
        def number(
            name: str,
            allowed: str,
            low: float,
            high: float,
            *,
            open_low: bool = False,
            open_high: bool = False,
            whole: bool = False,
        ) -> str:
            value = getattr(self, name)
            kinds = (int,) if whole else (int, float)
            ok = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
            ok = ok and (value > low if open_low else value >= low) and (value < high if open_high else value <= high)
            return "" if ok else f"{name}={value!r}: must be {allowed}"

        def choice(name: str, *allowed: str) -> str:
            value = getattr(self, name)
            return "" if value in allowed else f"{name}={value!r}: must be {' or '.join(map(repr, allowed))}"

        def flag(name: str) -> str:
            value = getattr(self, name)
            return "" if isinstance(value, bool) else f"{name}={value!r}: must be True or False"

        top = math.inf
        return [
            number("epochs", "a whole number of at least 1", 1, top, whole=True),
            number("batch_size", "a whole number of at least 1", 1, top, whole=True),
            choice("optimizer", "adamw", "sgd", "adadelta"),
            number("lr", "a number above 0", 0, top, open_low=True),
            choice("schedule", "cosine", "constant"),
            number("weight_decay", "a number of at least 0", 0, top),
            number("momentum", "a number from 0 up to, but not, 1", 0, 1, open_high=True),
            number("warmup", "a share of all steps, from 0 to 1", 0, 1),
            number("clip", "a number of at least 0 (0: off)", 0, top),
            number("ema", "a decay from 0 (off) up to, but not, 1", 0, 1, open_high=True),
            choice("amp", "no", "bf16", "fp16"),
            flag("channels_last"),
            flag("compile"),
            number("seed", "a whole number of at least 0", 0, top, whole=True),
            number("workers", "a whole number of at least 0", 0, top, whole=True),
            "" if self.threads is None else number("threads", "a whole number of at least 1", 1, top, whole=True),
            choice("device", "auto", "cpu"),
            number("save_every", "a whole number of at least 0", 0, top, whole=True),
            number("log_every", "a whole number of at least 0", 0, top, whole=True),
        ]  # fmt: skip


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the learning rate of ``step`` (from 0) of ``steps``: a line up, then half a cosine down to almost zero, or
    a line.
    """
    warm = round(recipe.warmup * steps)
    if step < warm:
        return recipe.lr * (step + 1) / warm
    if recipe.schedule == "constant":
        return recipe.lr
    share = (step - warm + 1) / (steps - warm + 1)
    return recipe.lr * 0.5 * (1.0 + math.cos(math.pi * share))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters: matrices and kernels decay; vectors and scalars (norms, biases) do not."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over the trainable parameters of ``model``.

    Raises:
        WhatwhereError: the model has nothing to train.
    """
    groups = parameter_groups(model, recipe.weight_decay)
    if not groups:
        raise WhatwhereError("the model has no trainable parameter: unfreeze some (requires_grad_(True))")
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    fused = devices <= {"cpu", "cuda"}
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, 0.999), fused=fused)
    if recipe.optimizer == "adadelta":
        return torch.optim.Adadelta(groups, lr=recipe.lr, rho=0.95, eps=1e-6)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=fused)
