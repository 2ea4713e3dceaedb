"""The plain network made wider, or narrower, until it costs what another does: a study's same-cost controls."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import torch

from .build import ModelConfig
from .widths import WidthSpec, width_spec

_MOST = 4  # no width is raised beyond this many times its own
_SLACK = 1.15  # the fewest parameters may take twice the time: of those with a few more, the one with the least work
_CELLS = 2_000_000  # combinations of widths looked at, at most


def widen(config: ModelConfig, at_least: int, size: int = 48) -> ModelConfig | None:
    """Return the same network without attention, its widths raised so that it has ``at_least`` parameters and little
    more.

    Widths are raised in steps that hardware handles well (multiples of 8; DenseNet's growth rate of 4; MobileNet's and
    EfficientNet's factor in steps of 2 %, which timm rounds to multiples of 8). Widths of stages are raised one by one;
    of those with at most 15 % too many parameters, the one with the fewest multiply-adds is taken, so that the control
    is not slower than it has to be.

    Args:
        config: the network; its attention is left out.
        at_least: parameters that the result must have.
        size: side of the images, in pixels, for which multiply-adds are counted.

    Returns:
        The config of the wider network; None where no way to set the widths is known, or four times the width is not
        enough.

    Example:
        >>> import whatwhere as ww
        >>> from whatwhere.networks import widen
        >>> widen(ww.ModelConfig("small-resnet"), at_least=150_000).width
        (16, 32, 104)
    """
    plain, spec = _plain(config), width_spec(config.name)
    if spec is None:
        return None
    start = spec.base if config.width is None else spec.widths(config.width)
    if spec.parameters(config.classes, start) >= at_least:
        return plain
    found = (
        _one(spec, config.classes, start, at_least)
        if len(start) == 1
        else _many(spec, config.classes, start, at_least, size)
    )
    if found is None:
        return None
    return _with_widths(plain, spec, found)


def narrow(config: ModelConfig, multiply_adds: int, size: int = 48) -> ModelConfig | None:
    """Return the same network without attention and ghost convolutions, all its widths lowered by the same factor so
    that it has as nearly as possible ``multiply_adds``.

    Args:
        config: the network.
        multiply_adds: for one image, as :func:`whatwhere.cost.count_multiply_adds` counts them.
        size: side of the images, in pixels, for which they are counted.

    Returns:
        The config of the narrower network; None where no way to set the widths is known, or where it would be narrower
        than a quarter or as wide as it is.

    Example:
        >>> import whatwhere as ww
        >>> from whatwhere.networks import narrow
        >>> narrow(ww.ModelConfig("small-resnet"), multiply_adds=2_000_000).width
        (8, 17, 34)
    """
    plain, spec = _plain(config), width_spec(config.name)
    if spec is None:
        return None
    start = spec.base if config.width is None else spec.widths(config.width)
    choices = dict.fromkeys(tuple(max(1, round(w * step / 128)) for w in start) for step in range(32, 129))
    found = min(choices, key=lambda widths: abs(spec.multiply_adds(config.classes, widths, size) - multiply_adds))
    if found in (start, next(iter(choices))):
        return None
    return _with_widths(plain, spec, found)


def _plain(config: ModelConfig) -> ModelConfig:
    return dataclasses.replace(config, attention="none", ghost="none").untrained()


def _with_widths(plain: ModelConfig, spec: WidthSpec, widths: tuple[int, ...]) -> ModelConfig:
    """Return a config with these widths: one a stage, or a factor where a single number stands for all."""
    return dataclasses.replace(plain, width=widths if len(widths) > 1 else widths[0] / spec.base[0])


def _one(spec: WidthSpec, classes: int, start: tuple[int, ...], at_least: int) -> tuple[int, ...] | None:
    """Return the smallest single width that is enough, by bisection."""
    low, high = start[0] // spec.step, math.ceil(start[0] * _MOST / spec.step)  # `low` is too small
    if spec.parameters(classes, (high * spec.step,)) < at_least:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if spec.parameters(classes, (middle * spec.step,)) < at_least:
            low = middle
        else:
            high = middle
    return (high * spec.step,)


def _many(spec: WidthSpec, classes: int, start: tuple[int, ...], at_least: int, size: int) -> tuple[int, ...] | None:
    """Return the widths with the fewest multiply-adds that have enough parameters, and at most :data:`_SLACK` too many.

    Parameters and multiply-adds are quadratic functions of the widths (each convolution has inputs · outputs), which a
    few networks built on the meta device determine; the best combinations that they predict are then built and counted.
    """
    aligned = tuple(math.ceil(width / spec.step) * spec.step for width in start)
    most = min(math.floor(_CELLS ** (1 / len(start))), max(aligned) * _MOST // spec.step)
    steps = [torch.arange(min(most, width * (_MOST - 1) // spec.step) + 1) for width in aligned]
    grid = torch.meshgrid(*steps, indexing="ij")

    def widths_at(raised: Sequence[int]) -> tuple[int, ...]:
        return tuple(w + spec.step * r for w, r in zip(aligned, raised, strict=True))

    parameters = _predict(lambda raised: spec.parameters(classes, widths_at(raised)), grid)
    work = _predict(lambda raised: spec.multiply_adds(classes, widths_at(raised), size), grid)
    enough = parameters >= at_least
    if not enough.any():
        return None
    limit = max(round(_SLACK * at_least), int(parameters[enough].min()))
    candidates = work.masked_fill(~enough | (parameters > limit), torch.iinfo(torch.int64).max)
    for index in candidates.flatten().argsort(stable=True)[:16]:
        widths = widths_at([int(k.flatten()[index]) for k in grid])
        if spec.parameters(classes, widths) >= at_least:
            return widths
    return None


def _predict(count: Callable[[Sequence[int]], int], grid: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return ``count`` for every combination of raised stages in ``grid``, from a few values: it is quadratic."""
    stages = len(grid)

    def at(*raised: int) -> int:
        """Count with the stages of these numbers raised by one step each (a number given twice: by two)."""
        return count([raised.count(stage) for stage in range(stages)])

    base = at()
    one = [at(i) for i in range(stages)]
    predicted = torch.full_like(grid[0], base)
    for i, k in enumerate(grid):
        predicted += (one[i] - base) * k + (at(i, i) - 2 * one[i] + base) * (k * (k - 1) // 2)
    for (i, k), (j, m) in itertools.combinations(enumerate(grid), 2):
        predicted += (at(i, j) - one[i] - one[j] + base) * k * m
    return predicted
