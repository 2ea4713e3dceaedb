"""Attention and networks together: find the places, insert, remove; small networks; any timm network by name."""

from .build import ModelConfig, build
from .checkpoints import LoadReport, from_pretrained, load, load_model, push_to_hub, save
from .control import widen
from .counting import count_multiply_adds, count_parameters
from .fuse import FuseReport, fuse, unfuse
from .places import Site, sites
from .replace import replace
from .report import Placed, ReplaceReport, Report
from .surgery import attentions, insert, remove
from .tails import Tail, unfused

__all__ = [
    "FuseReport",
    "LoadReport",
    "ModelConfig",
    "Placed",
    "ReplaceReport",
    "Report",
    "Site",
    "Tail",
    "attentions",
    "build",
    "count_multiply_adds",
    "count_parameters",
    "from_pretrained",
    "fuse",
    "insert",
    "load",
    "load_model",
    "push_to_hub",
    "remove",
    "replace",
    "save",
    "sites",
    "unfuse",
    "unfused",
    "widen",
]
