"""A trained network made narrower: the control of the same multiply-adds for ghost convolutions."""

import copy
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from whatwhere.cost import count_multiply_adds
from whatwhere.errors import need
from whatwhere.studies import Job, Outcome, ProcessExecutor
from whatwhere.studies.jobs import run_job
from whatwhere.tasks import register
from whatwhere.tasks.classify import Classify, ClassifyConfig

_STEPS = 10


def narrowed(model: nn.Module, multiply_adds: int, size: int) -> nn.Module:
    """Return a copy of a classifier without the channels of the smallest weights, with about so many multiply-adds.

    torch-pruning takes the same share of every layer's channels, those of the smallest L2 norm first, and follows them
    through the layers that depend on them. The share is found by bisection; the classifier keeps its outputs.
    """
    pruning = need("torch_pruning", extra="peers")
    low, high = 0.0, 0.95
    best, gap = copy.deepcopy(model), float("inf")
    for _ in range(_STEPS):
        share = (low + high) / 2
        tried = copy.deepcopy(model).requires_grad_(True)
        pruning.pruner.MagnitudePruner(
            tried,
            torch.zeros(1, 3, size, size),
            pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=share,
            ignored_layers=[module for module in tried.modules() if isinstance(module, nn.Linear)],
        ).step()
        count = count_multiply_adds(tried, (3, size, size))
        if abs(count - multiply_adds) < gap:
            best, gap = tried, abs(count - multiply_adds)
        low, high = (share, high) if count > multiply_adds else (low, share)
    return best


@dataclass(frozen=True)
class NarrowingConfig(ClassifyConfig):
    """Classify images with a network that may be made narrower after its weights are loaded."""

    multiply_adds: int = 0
    """How many it should have for one image; 0 leaves it as it is."""


@register("classify-narrowed", NarrowingConfig)
class Narrowing(Classify):
    """Classification whose control for ghost convolutions starts from learned weights too."""

    def __init__(self, config: NarrowingConfig, resolved: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, resolved)
        self._multiply_adds = config.multiply_adds

    def build(self, seed: int, *, pretrained: bool = True) -> nn.Module:
        """Return the network, narrowed if the config says so: to the same widths also without learned weights."""
        model = super().build(seed, pretrained=pretrained)
        return narrowed(model, self._multiply_adds, self.size) if self._multiply_adds else model

    def narrowed(self, multiply_adds: int) -> dict[str, Any]:
        """Return the config of the plain network, narrowed from its learned weights."""
        return {**self.config, "multiply_adds": multiply_adds}


def run_narrowing_job(job: Job) -> Outcome:
    """Train one run; a process that unpickles this function knows the task of this file."""
    return run_job(job)


class NarrowingExecutor(ProcessExecutor):
    """Worker processes that know the task of this file."""

    def submit(self, job: Job) -> "Future[Outcome]":
        """Put a job into the queue of the workers."""
        return self.pool.submit(run_narrowing_job, job)
