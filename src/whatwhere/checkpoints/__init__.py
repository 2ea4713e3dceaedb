"""Checkpoints in and out: weights of others into a network, and whole networks into a file or to the hub."""

from .build import build
from .hub import from_pretrained, push_to_hub
from .loading import load
from .renamers import RENAMERS, Renamed, renamer
from .report import LoadReport
from .saving import load_model, save

__all__ = [
    "RENAMERS",
    "LoadReport",
    "Renamed",
    "build",
    "from_pretrained",
    "load",
    "load_model",
    "push_to_hub",
    "renamer",
    "save",
]
