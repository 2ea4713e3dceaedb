"""The stopwatch: several calls timed in turn in one process, so that whatever drifts on the machine hits all alike."""

import contextlib
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

BLOCK = 10.0
"""Milliseconds that a call is timed for in one round, at least: shorter calls are made several times."""
ROUNDS = 5
"""Rounds that are made however long they take."""
_MOST_CALLS = 1000
_WARM_UPS = 2


@dataclass(frozen=True)
class Timing:
    """Time of one call in milliseconds.

    Attributes:
        median: over the rounds.
        low: the lower quartile.
        high: the upper quartile.
        rounds: how many there were.
    """

    median: float
    low: float
    high: float
    rounds: int

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, in percent of the median.

        Example:
            >>> from whatwhere.cost import Timing
            >>> Timing(median=20.0, low=19.0, high=21.0, rounds=9).spread
            5.0
        """
        return 50 * (self.high - self.low) / self.median


@dataclass
class Measurement:
    """All that was measured of one call, in milliseconds.

    Attributes:
        samples: time of a call, one number a round (the mean over the round's calls).
        calls: timed calls a round.
        first: time of the very first call, with whatever it compiled.
        failure: what the call raised, in one line, or None; without samples then.
    """

    samples: list[float] = field(default_factory=list)
    calls: int = 0
    first: float = math.nan
    failure: str | None = None

    @property
    def timing(self) -> Timing:
        """Median and quartiles of the samples."""
        samples = self.samples if len(self.samples) > 1 else 2 * self.samples  # one sample is its own quartiles
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return Timing(median, low, high, len(self.samples))


def time_in_turn(
    calls: Mapping[str, Callable[[], Any]],
    device: torch.device,
    seconds: float,
    on_round: Callable[[], None] | None = None,
) -> dict[str, Timing]:
    """Time calls in turn, as :func:`measure_in_turn` does; what one of them raises comes through.

    Args:
        calls: what to time, by name.
        device: its queue is waited for before the clock is read.
        seconds: roughly how long each call is timed; at least 5 rounds are made.
        on_round: called after each round.

    Returns:
        A timing for every name.

    Example:
        >>> import torch
        >>> from whatwhere.cost import time_in_turn
        >>> x = torch.randn(64, 64)
        >>> found = time_in_turn({"add": lambda: x + x, "product": lambda: x @ x}, torch.device("cpu"), seconds=0.01)
        >>> found["add"].low <= found["add"].median <= found["add"].high
        True
    """
    found = measure_in_turn(calls, device, seconds * len(calls), on_round=on_round, tolerant=False)
    return {name: measurement.timing for name, measurement in found.items()}


def measure_in_turn(
    calls: Mapping[str, Callable[[], Any]],
    device: torch.device,
    seconds: float,
    *,
    rounds: int = ROUNDS,
    block: float = BLOCK,
    inspect: Callable[[str, Any], None] | None = None,
    on_round: Callable[[], None] | None = None,
    tolerant: bool = True,
) -> dict[str, Measurement]:
    """Time every call in every round, one after the other, in the order given.

    Before the rounds each is made a few times, which also says how many calls fill a block. Where a block is several
    calls, one more is made before them that does not count, so that the caches hold what it leaves there itself and not
    what the call before it left. Garbage is collected between the rounds, not while the clock runs.

    Args:
        calls: what to time, by name; each does all of its work in one call.
        device: its queue is waited for before the clock is read.
        seconds: how long the rounds go on, all calls together; at least ``rounds`` rounds are made.
        rounds: see ``seconds``.
        block: milliseconds that a turn lasts, at least.
        inspect: gets name and result of each first call; what it raises counts as raised by the call.
        on_round: called after each round.
        tolerant: whether a call that raises is out from then on while the others go on; otherwise what it raises comes
            through.

    Returns:
        A measurement for every name; that of a call which raised has no samples and says what it raised.

    Example:
        >>> import torch
        >>> from whatwhere.cost import measure_in_turn
        >>> found = measure_in_turn({"right": lambda: 1 + 1, "wrong": lambda: 1 / 0}, torch.device("cpu"), seconds=0.01)
        >>> found["right"].failure is None, found["wrong"].failure
        (True, 'raised ZeroDivisionError: division by zero')
    """
    found = {name: Measurement() for name in calls}

    def attempt(name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            if not tolerant:
                raise
            found[name].failure = describe(error)
            found[name].samples.clear()

    for name, call in calls.items():
        see = None if inspect is None else partial(inspect, name)
        attempt(name, partial(_warm_up, found[name], call, device, block, see))
    with _no_collection():
        until = time.perf_counter() + seconds
        made = 0
        while made < rounds or time.perf_counter() < until:
            running = [name for name in calls if found[name].failure is None]
            if not running:
                break
            for name in running:
                attempt(name, partial(_turn, found[name], calls[name], device))
            gc.collect()
            made += 1
            if on_round is not None:
                on_round()
    return found


def describe(error: BaseException) -> str:
    """Say what was raised in one line.

    Example:
        >>> from whatwhere.cost.stopwatch import describe
        >>> describe(KeyError("x"))
        "raised KeyError: 'x'"
    """
    lines = str(error).strip().splitlines()
    return f"raised {type(error).__name__}" + (f": {lines[0][:200]}" if lines else "")


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Collect garbage now and not by itself inside the block; what is alive now is not looked through again."""
    collecting, freezes = gc.isenabled(), gc.get_freeze_count() == 0
    gc.collect()
    if freezes:
        gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if freezes:
            gc.unfreeze()
        if collecting:
            gc.enable()


def _warm_up(
    measurement: Measurement,
    call: Callable[[], Any],
    device: torch.device,
    block: float,
    inspect: Callable[[Any], None] | None,
) -> None:
    _wait(device)
    start = time.perf_counter()
    result = call()
    _wait(device)
    measurement.first = 1e3 * (time.perf_counter() - start)
    if inspect is not None:
        inspect(result)
    del result
    for _ in range(_WARM_UPS):
        estimate = _timed(call, 1, device)
    measurement.calls = min(_MOST_CALLS, max(1, math.ceil(block / max(estimate, 1e-6))))


def _turn(measurement: Measurement, call: Callable[[], Any], device: torch.device) -> None:
    if measurement.calls > 1:
        call()
    measurement.samples.append(_timed(call, measurement.calls, device))


def _timed(call: Callable[[], Any], calls: int, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    _wait(device)
    return 1e3 * (time.perf_counter() - start) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
