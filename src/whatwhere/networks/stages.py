"""Stage ends in a watched forward pass: the last map at each resolution that everything later is made from."""

from collections.abc import Callable
from itertools import accumulate, groupby

from .values import Trace


def stage_ends(trace: Trace, usable: Callable[[int], bool]) -> list[int]:
    """Return, for each stretch of one resolution, its last value with a ``usable`` place after two or more convolutions.

    First choice are the values that every way from input to output goes through; where these give one place or none
    (U-Net, whose skip connections go round), those that every way out of their own stretch goes through. A value with
    only the classifier behind it that is itself the class map does not count.
    """
    relevant = _relevant(trace)
    edges = [(parent, number) for number in relevant for parent in trace.values[number].parents]
    whole, local = [], []
    for stretch in _stretches(trace, relevant):
        convolutions = list(accumulate(trace.values[number].is_convolution for number in stretch))
        late = [number for number, count in zip(stretch, convolutions, strict=True) if count >= 2]
        candidates = [number for number in reversed(late) if usable(number) and _has_layers_behind(trace, number)]
        inside = set(stretch)
        own = [edge for edge in edges if edge[0] in inside]
        whole += [n for n in candidates if not any(p < n < c for p, c in edges)][:1]
        local += [n for n in candidates if not any(p < n < c for p, c in own)][:1]
    return whole if len(whole) > 1 or len(whole) == len(local) else local


def _relevant(trace: Trace) -> list[int]:
    """Return the values that the outputs are made from."""
    bits = 0
    for output in trace.outputs:
        bits |= trace.ancestors(output)
    return [number for number in range(len(trace.values)) if (bits >> number) & 1]


def _stretches(trace: Trace, relevant: list[int]) -> list[list[int]]:
    """Return the feature maps in order, cut where the resolution changes; stretches that come back to a size are apart.

    What is on the way aside is left out: padded maps, and maps of one place (inside squeeze-and-excitation).
    """
    maps = []
    for number in relevant:
        value = trace.values[number]
        if value.is_map and not value.hidden and value.places > 1 and "pad" not in value.op:
            maps.append(number)
    return [list(group) for _, group in groupby(maps, key=lambda number: trace.values[number].shape[2:])]


def _has_layers_behind(trace: Trace, number: int) -> bool:
    """Whether a convolution or matrix product is made from this value, or it is a headless network's own map."""
    if any(
        trace.values[n].is_weighted and (trace.ancestors(n) >> number) & 1 for n in range(number + 1, len(trace.values))
    ):
        return True
    last = [trace.values[output] for output in trace.outputs]
    return all(value.is_map and not value.is_convolution for value in last)
