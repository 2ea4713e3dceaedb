"""Squeeze and apply: the two parts of every attention that touch the whole feature map.

Layers read and write maps with these functions only, so a faster backend makes all layers faster.
:mod:`whatwhere.ops.reference` defines what they compute; :func:`which` says which backend runs.
"""

from .attend import attend, gates
from .backends import backend, which
from .reference import CHANNEL_POOLS, SPACE_POOLS
from .single import apply_gates, filter_maps, squeeze_channels, squeeze_space
from .steps import Dense, Filter, Step
from .warm import warm_up

__all__ = [
    "CHANNEL_POOLS",
    "SPACE_POOLS",
    "Dense",
    "Filter",
    "Step",
    "apply_gates",
    "attend",
    "backend",
    "filter_maps",
    "gates",
    "squeeze_channels",
    "squeeze_space",
    "warm_up",
    "which",
]
