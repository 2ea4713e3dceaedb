"""Attention and networks together: find the places, insert, remove; small networks; any timm network by name."""

from .build import ModelConfig, build
from .control import widen
from .places import Site, sites
from .report import Placed, Report
from .surgery import attentions, insert, remove

__all__ = ["ModelConfig", "Placed", "Report", "Site", "attentions", "build", "insert", "remove", "sites", "widen"]
