"""Networks by name with random weights: small ones, any of timm's, and wider ones of the same cost."""

from ..layers.ghost import GhostModule
from .build import ModelConfig, build_plain
from .control import narrow, widen
from .ghost import GhostBottleneck, GhostNet

__all__ = ["GhostBottleneck", "GhostModule", "GhostNet", "ModelConfig", "build_plain", "narrow", "widen"]
