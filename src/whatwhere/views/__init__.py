"""What the attention sees: capture its gates, draw them, measure how much of them is on the object."""

from .capture import Seen, attended, capture
from .energy import area_inside, energy_inside, spatial_energy
from .grad_cam import grad_cam
from .look import look
from .result import Look, View

__all__ = [
    "Look",
    "Seen",
    "View",
    "area_inside",
    "attended",
    "capture",
    "energy_inside",
    "grad_cam",
    "look",
    "spatial_energy",
]
