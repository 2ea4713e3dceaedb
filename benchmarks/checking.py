"""A contender must be built, and compute what it says, before its time counts."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.cost.stopwatch import Measurement, describe

_NUMBERS = itertools.count()
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 5e-2}
"""Relative errors (of norms) that are rounding: in half precision the contenders round in different steps."""


class WrongResult(Exception):
    """A contender computes something else."""


class Check:
    """Compares first results with what is expected, and notes errors and graph breaks.

    Attributes:
        errors: relative error by name, as a norm of the difference over the norm of what is expected.
        breaks: by name how many graph breaks ``torch.compile`` had.
    """

    def __init__(self, expected: dict[str, Tensor]) -> None:
        self.expected = expected
        self.errors: dict[str, float] = {}
        self.breaks: dict[str, int] = {}
        self._breaks = _graph_breaks()

    def __call__(self, name: str, result: Any) -> None:
        """Check one result; names without an expectation pass.

        Raises:
            WrongResult: the error is more than rounding.
        """
        breaks = _graph_breaks()
        self.breaks[name], self._breaks = breaks - self._breaks, breaks
        if name not in self.expected:
            return
        error = relative_error(result, self.expected[name])
        self.errors[name] = error
        if not error <= TOLERANCE[result.dtype]:
            raise WrongResult(
                f"the result is off by {error:.2g} of its norm, {TOLERANCE[result.dtype]:g} would be rounding"
            )

    def row(self, name: str) -> dict[str, Any]:
        """Return what was found, for JSON."""
        error = self.errors.get(name)
        finite = error is not None and error < float("inf")
        return {"relative_error": error if finite else None, "graph_breaks": self.breaks.get(name)}


def build_calls(
    makers: Mapping[str, Callable[[], Callable[[], Any]]],
) -> tuple[dict[str, Callable[[], Any]], dict[str, Measurement]]:
    """Make the calls; return those that could be made, and for the others a measurement that says why not."""
    calls, failed = {}, {}
    for name, make in makers.items():
        try:
            calls[name] = make()
        except Exception as error:
            failed[name] = Measurement(failure=describe(error))
    return calls, failed


def relative_error(result: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference over the norm of what is expected; nan if either is not finite."""
    a, b = result.detach().double(), expected.detach().double()
    return float((a - b).norm() / b.norm().clamp_min(1e-300))


def compiled(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the module's call, compiled for one shape with the default settings of ``torch.compile``.

    Every call of this function makes a new code object. Dynamo looks compiled code up by the code object and does not
    check hooks: of two networks of one class, one with attention in its hooks, the second would otherwise run the code
    of the first. Reaching the limit of recompilations raises; by default Dynamo would silently run uncompiled code.
    """

    def call(x: Tensor) -> Tensor:
        y: Tensor = module(x)
        return y

    call.__code__ = call.__code__.replace(co_name=f"call_{next(_NUMBERS)}")
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    return torch.compile(call, dynamic=False)


def forget_compiled() -> None:
    """Forget all that was compiled, so that shapes measured before do not count as recompilations."""
    torch._dynamo.reset()


def _graph_breaks() -> int:
    return sum(torch._dynamo.utils.counters["graph_break"].values())
