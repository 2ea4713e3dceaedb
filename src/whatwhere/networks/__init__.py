"""Networks by name with random weights: small ones, any of timm's, and wider ones of the same cost."""

from .build import ModelConfig, build_plain
from .control import widen

__all__ = ["ModelConfig", "build_plain", "widen"]
