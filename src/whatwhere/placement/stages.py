"""Stage ends in a recorded forward pass: the last map at each resolution that everything later depends on."""

from collections.abc import Callable, Iterable
from itertools import accumulate, groupby

from ..graph.values import Trace


def stage_ends(
    trace: Trace, usable: Callable[[int], bool], leaving: Callable[[int], bool], convolutions: int = 2
) -> list[int]:
    """Return, for each stretch of one resolution, its last ``usable`` value after so many ``convolutions`` in it or
    more.

    Values that every path from input to output goes through are preferred. Where only one stretch has such a value, or
    at most half of them do (U-Net, whose skip connections bypass the rest), values are taken that every path out of
    their own stretch goes through. A class map does not count. Values that are ``leaving``, made inside the block that
    changes the resolution (an inverted residual's expansion), are taken only if there is no other.
    """
    relevant = _relevant(trace)
    edges = [(parent, number) for number in relevant for parent in trace.values[number].parents]
    behind = _layers_behind(trace)
    crossing = _crossing(edges, len(trace.values))
    whole, local = [], []
    for stretch in _stretches(trace, relevant):
        counts = accumulate(trace.values[number].is_convolution for number in stretch)
        late = [number for number, count in zip(stretch, counts, strict=True) if count >= convolutions]
        maps = [number for number in reversed(late) if trace.values[number].is_map]
        # The order is stable: the last ones come first.
        candidates = sorted((n for n in maps if (behind >> n) & 1 and usable(n)), key=leaving)
        inside = set(stretch)
        own = _crossing((edge for edge in edges if edge[0] in inside), len(trace.values))
        whole += [n for n in candidates if crossing[n] <= n][:1]
        local += [n for n in candidates if own[n] <= n][:1]
    return whole if len(whole) == len(local) or len(whole) > max(1, len(local) / 2) else local


def _relevant(trace: Trace) -> list[int]:
    """Return the values that the outputs are made from."""
    bits = 0
    for output in trace.outputs:
        bits |= trace.ancestors(output)
    return [number for number in range(len(trace.values)) if (bits >> number) & 1]


def _crossing(edges: Iterable[tuple[int, int]], count: int) -> list[int]:
    """Return for each value the latest one that is made from anything before it; if later than itself, a path bypasses
    it.
    """
    latest = [0] * count
    for parent, child in edges:
        latest[parent] = max(latest[parent], child)
    return list(accumulate(latest, max, initial=0))[:count]


def _stretches(trace: Trace, relevant: list[int]) -> list[list[int]]:
    """Return the feature maps in order, cut where the resolution changes; stretches that come back to a size are apart.

    Left out are padded maps, maps of one position (inside squeeze-and-excitation), and detours to another size with
    fewer than two convolutions (keys and values of attention at a coarser grid).
    """
    maps = []
    for number in relevant:
        value = trace.values[number]
        if value.grid is not None and not value.hidden and value.positions > 1 and "pad" not in value.op:
            maps.append(number)
    stretches: list[list[int]] = []
    for _, group in groupby(maps, key=lambda number: trace.values[number].grid):
        stretches.append(list(group))
        while len(stretches) >= 3 and _excursion(trace, *stretches[-3:]):
            stretches[-3:] = [stretches[-3] + stretches[-1]]
    return stretches


def _excursion(trace: Trace, before: list[int], between: list[int], after: list[int]) -> bool:
    same = trace.values[before[0]].grid == trace.values[after[0]].grid
    return same and sum(trace.values[number].is_convolution for number in between) < 2


def _is_scores(trace: Trace, number: int) -> bool:
    """Whether an output is a class map: what a convolution made, perhaps resized, or a sum of such."""
    value = trace.values[number]
    if value.addends is not None:
        return all(_is_scores(trace, addend) for addend in value.addends)
    only_resized = len(value.parents) == 1 and (
        value.op.startswith("upsample") or value.op in ("alias", "clone", "view")
    )
    return _is_scores(trace, value.parents[0]) if only_resized else value.is_convolution


def _layers_behind(trace: Trace) -> int:
    """Return, as bits, the values that a convolution or matrix product is made from; all, if a headless network ends in
    maps.
    """
    if all(trace.values[output].is_map and not _is_scores(trace, output) for output in trace.outputs):
        return (1 << len(trace.values)) - 1
    bits = 0
    for number, value in enumerate(trace.values):
        if value.is_weighted:
            bits |= trace.ancestors(number) & ~(1 << number)
    return bits
