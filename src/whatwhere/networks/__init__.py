"""Attention and networks together: find the places, insert, remove; small networks; any timm network by name."""

from .build import ModelConfig, build
from .control import widen
from .counting import count_multiply_adds, count_parameters
from .places import Site, sites
from .report import Placed, Report
from .surgery import attentions, insert, remove

__all__ = [
    "ModelConfig",
    "Placed",
    "Report",
    "Site",
    "attentions",
    "build",
    "count_multiply_adds",
    "count_parameters",
    "insert",
    "remove",
    "sites",
    "widen",
]
