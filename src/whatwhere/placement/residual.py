"""Residual adds in a recorded forward pass: which values are added, and which of the two is the branch."""

from dataclasses import dataclass

from ..graph.values import Trace

_LINEAR = {"batch_norm", "native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "add", "alias", "clone", "view"}
_LINEAR |= {"_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "_batch_norm_with_update"}
_LINEAR |= {"_batch_norm_no_update", "batch_norm_with_update_functional", "mul", "div", "_to_copy", "detach"}
_CUTS = {"split", "split_with_sizes", "slice", "select", "unbind", "narrow", "index"}
_POOLS = {"mean", "amax", "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"}
_PROJECTION = 2  # convolutions that a shortcut may have: ResNet one, GhostNet two


@dataclass(frozen=True)
class Add:
    """A residual add: shortcut + branch."""

    value: int
    shortcut: int
    branch: int
    own: int  # the bits of the values that only the branch is made from


def residual_adds(trace: Trace, single: bool = False) -> list[Add]:
    """Return the residual adds of a forward pass, in order.

    An add of two feature maps of the same shape is residual if

    - one of them was made from the other (the shortcut), or both from a common value and the shortcut by at most two
      convolutions and by fewer than the branch (a projection), not by pooling to one number a channel (sums of gates),
      nor by cutting channels off a common value where the branch is made from others of its channels (Res2Net's inner
      sums);
    - the branch goes through a convolution without leaving the map's size on the way and without upsampling (not so the
      top-down sums of a feature pyramid), and is more than one linear step (not so the parallel branches of RepVGG);
      with ``single`` one convolution is enough.

    Either may be some of the channels of a wider map (the dual paths of DPN, the widening blocks of ReXNet).
    """
    found = []
    for number, value in enumerate(trace.values):
        if value.addends is None or value.hidden or not value.is_map or value.shape[1] < 2:
            continue
        if not all(trace.values[addend].is_map for addend in value.addends):
            continue
        pairs = (value.addends, value.addends[::-1])
        found += [add for pair in pairs if (add := _residual(trace, number, *pair, single)) is not None][:1]
    return found


def _residual(trace: Trace, number: int, shortcut: int, branch: int, single: bool) -> Add | None:
    before, after = trace.ancestors(shortcut), trace.ancestors(branch)
    common, own = before & after, after & ~before
    if not common or not own:
        return None
    if not (common >> shortcut) & 1:
        projection, convolutions = _convolutions(trace, before & ~after), _convolutions(trace, own)
        if not projection < convolutions or projection > _PROJECTION:
            return None
        if any(_is_cut_aside(trace, index, own) or _is_pooled(trace, index) for index in _members(before & ~after)):
            return None
    steps = [trace.values[i] for i in _members(own)]
    linear = all(step.is_convolution or step.op in _LINEAR for step in steps)
    if _depth(trace, own, branch, trace.values[number].positions) < (2 if linear and not single else 1):
        return None
    return Add(number, shortcut, branch, own)


def _is_cut_aside(trace: Trace, index: int, own: int) -> bool:
    """Whether this is a slice of the channels of a value of which the branch only uses other slices."""
    if trace.values[index].op not in _CUTS:
        return False
    whole = trace.values[index].parents
    used = [trace.values[i] for i in _members(own) if set(whole) & set(trace.values[i].parents)]
    return bool(used) and all(value.op in _CUTS for value in used)


def _is_pooled(trace: Trace, index: int) -> bool:
    """Whether this is a map pooled to one number a channel."""
    value = trace.values[index]
    return value.op in _POOLS and value.positions == 1 and any(trace.values[p].positions > 1 for p in value.parents)


def _depth(trace: Trace, own: int, branch: int, positions: float) -> int:
    """Return the most convolutions and matrix products on a path whose maps all have at least ``positions``; -1 if
    there is none.
    """
    depth: dict[int, int] = {}
    for index in _members(own):
        value = trace.values[index]
        # A parent outside `own` is where the branch begins.
        ways = [
            depth[p] if (own >> p) & 1 else (0 if trace.values[p].positions >= positions else -1) for p in value.parents
        ]
        longest = max(ways, default=-1)
        leaves = value.positions < positions or value.op.startswith("upsample")
        depth[index] = -1 if longest < 0 or leaves else longest + value.is_weighted
    return depth[branch]


def _convolutions(trace: Trace, bits: int) -> int:
    return sum(trace.values[index].is_convolution for index in _members(bits))


def _members(bits: int) -> list[int]:
    members = []
    while bits:
        low = bits & -bits
        members.append(low.bit_length() - 1)
        bits ^= low
    return members
