"""Squeeze and excite: the two moves of every attention that touch the whole feature map.

The functions here are the only way in which layers read or write a map, so that a faster backend serves all of them at once.
:mod:`whatwhere.ops.reference` defines what they compute.
"""

from .reference import CHANNEL_POOLS, SPACE_POOLS, excite, squeeze_channels, squeeze_space

__all__ = ["CHANNEL_POOLS", "SPACE_POOLS", "excite", "squeeze_channels", "squeeze_space"]
