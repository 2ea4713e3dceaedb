"""Changing a network: attach and detach attention, insert, remove, replace, fuse, ghostify."""

from .attach import attentions
from .blocks import BlockSpec
from .fuse import FuseReport, fuse, unfuse
from .ghost_report import GhostifyReport, GhostSite
from .ghostify import ghostify, unghostify
from .insert import insert, remove
from .replace import replace
from .report import InsertedSite, InsertReport, ReplaceReport

__all__ = [
    "BlockSpec",
    "FuseReport",
    "GhostSite",
    "GhostifyReport",
    "InsertReport",
    "InsertedSite",
    "ReplaceReport",
    "attentions",
    "fuse",
    "ghostify",
    "insert",
    "remove",
    "replace",
    "unfuse",
    "unghostify",
]
