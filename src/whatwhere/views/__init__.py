"""What does the attention see? Capture its gates, draw them, measure how much of them lies on the object."""

from .cam import cam
from .capture import Seen, attended, capture
from .energy import area_inside, energy_inside, spatial_energy
from .look import Look, View, look

__all__ = [
    "Look",
    "Seen",
    "View",
    "area_inside",
    "attended",
    "cam",
    "capture",
    "energy_inside",
    "look",
    "spatial_energy",
]
