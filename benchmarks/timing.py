"""Times several calls in one process, in turn, so that whatever drifts on the machine hits all alike."""

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

BLOCK = 0.01
"""Seconds that a contender is timed for in one round, at least: shorter calls are made several times."""
ROUNDS = 5
"""Rounds that are made however long they take."""
MOST_CALLS = 1000
_WARM_UPS = 2


@dataclass
class Timing:
    """What became of one contender.

    Attributes:
        samples: seconds a call, one number a round (the mean over the round's calls).
        calls: timed calls a round.
        first: seconds that the very first call took, with whatever it compiled.
        failure: what the contender raised, or None; without samples then.
    """

    samples: list[float] = field(default_factory=list)
    calls: int = 0
    first: float = float("nan")
    failure: str | None = None

    @property
    def median(self) -> float:
        """Median over the rounds of the seconds a call."""
        return float(np.median(self.samples))

    @property
    def spread(self) -> float:
        """Half the interquartile range over the rounds, in percent of the median."""
        low, high = np.percentile(self.samples, [25, 75])
        return float(50 * (high - low) / self.median)


def time_in_turn(
    calls: Mapping[str, Callable[[], Any]],
    seconds: float,
    device: torch.device,
    *,
    rounds: int = ROUNDS,
    block: float = BLOCK,
    inspect: Callable[[str, Any], None] | None = None,
) -> dict[str, Timing]:
    """Time every contender in every round, one after the other, in the order given.

    Before the rounds each is called a few times, which also says how many calls fill a block. A contender whose block is several calls
    makes one more before them that does not count, so that the caches hold what it leaves there itself and not what the one before it left.
    Garbage is collected between the rounds, not while the clock runs.

    Args:
        calls: contenders by name; each does all of its work in one call.
        seconds: how long the rounds go on, all contenders together; at least ``rounds`` rounds are made.
        device: its queue is waited for before the clock is read.
        rounds: see ``seconds``.
        block: seconds that a contender's turn lasts, at least.
        inspect: gets name and result of each first call; what it raises counts as raised by the contender.

    Returns:
        A timing for every name. One that raises at any time is out from then on, with the error in words; the others go on.
    """
    found = {name: Timing() for name in calls}
    for name, call in calls.items():
        see = None if inspect is None else partial(inspect, name)
        _try(found[name], partial(_warm_up, found[name], call, device, block, see))
    collecting = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        until = time.perf_counter() + seconds
        made = 0
        while made < rounds or time.perf_counter() < until:
            running = [name for name in calls if found[name].failure is None]
            if not running:
                break
            for name in running:
                _try(found[name], partial(_turn, found[name], calls[name], device))
            gc.collect()
            made += 1
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()
    return found


def build_calls(
    makers: Mapping[str, Callable[[], Callable[[], Any]]],
) -> tuple[dict[str, Callable[[], Any]], dict[str, Timing]]:
    """Make the calls; return those that could be made, and for the others a timing that says why not."""
    calls, failed = {}, {}
    for name, make in makers.items():
        try:
            calls[name] = make()
        except Exception as error:
            failed[name] = Timing(failure=describe(error))
    return calls, failed


def describe(error: BaseException) -> str:
    """Say what was raised in one line."""
    lines = str(error).strip().splitlines()
    return f"raised {type(error).__name__}" + (f": {lines[0][:200]}" if lines else "")


def _try(timing: Timing, work: Callable[[], Any]) -> None:
    try:
        work()
    except Exception as error:
        timing.failure = describe(error)
        timing.samples.clear()


def _warm_up(
    timing: Timing,
    call: Callable[[], Any],
    device: torch.device,
    block: float,
    inspect: Callable[[Any], None] | None,
) -> None:
    _wait(device)
    start = time.perf_counter()
    result = call()
    _wait(device)
    timing.first = time.perf_counter() - start
    if inspect is not None:
        inspect(result)
    del result
    for _ in range(_WARM_UPS):
        estimate = _timed(call, 1, device)
    timing.calls = min(MOST_CALLS, max(1, math.ceil(block / max(estimate, 1e-9))))


def _turn(timing: Timing, call: Callable[[], Any], device: torch.device) -> None:
    if timing.calls > 1:
        call()
    timing.samples.append(_timed(call, timing.calls, device))


def _timed(call: Callable[[], Any], calls: int, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    _wait(device)
    return (time.perf_counter() - start) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
