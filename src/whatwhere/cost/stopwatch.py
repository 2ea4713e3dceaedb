"""The stopwatch: several calls timed in turn in one process, so that whatever drifts on the machine hits all alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Timing:
    """Median time of one call in milliseconds, with the quartiles as its spread, over ``rounds`` calls."""

    median: float
    low: float
    high: float
    rounds: int


def time_in_turn(
    calls: Mapping[str, Callable[[], Any]],
    device: torch.device,
    seconds: float,
    on_round: Callable[[], None] | None = None,
) -> dict[str, Timing]:
    """Time every call once a round, for at least 5 rounds and about ``seconds`` times the number of calls."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    until = time.perf_counter() + seconds * len(calls)
    rounds = 0
    while rounds < 5 or time.perf_counter() < until:
        for name, call in calls.items():
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            times[name].append(1e3 * (time.perf_counter() - start))
        rounds += 1
        if on_round:
            on_round()
    quartiles = {name: np.percentile(t, [25, 50, 75]) for name, t in times.items()}
    return {name: Timing(float(q[1]), float(q[0]), float(q[2]), rounds) for name, q in quartiles.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
