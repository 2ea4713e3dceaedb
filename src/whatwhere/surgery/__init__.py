"""Changing a network: attach and detach attention, insert, remove, replace, fuse."""

from .attach import attentions
from .blocks import BlockSpec
from .fuse import FuseReport, fuse, unfuse
from .insert import insert, remove
from .replace import replace
from .report import InsertedSite, InsertReport, ReplaceReport

__all__ = [
    "BlockSpec",
    "FuseReport",
    "InsertReport",
    "InsertedSite",
    "ReplaceReport",
    "attentions",
    "fuse",
    "insert",
    "remove",
    "replace",
    "unfuse",
]
