"""What a network sees: its gates, Grad-CAM, how much of them is on the object, and which of its maps are alike."""

from .capture import Seen, attended, capture
from .energy import area_inside, energy_inside, spatial_energy
from .grad_cam import grad_cam
from .look import look
from .redundancy import redundancy
from .redundancy_result import BestSources, LayerRedundancy, Pair, Redundancy
from .result import Look, View

__all__ = [
    "BestSources",
    "LayerRedundancy",
    "Look",
    "Pair",
    "Redundancy",
    "Seen",
    "View",
    "area_inside",
    "attended",
    "capture",
    "energy_inside",
    "grad_cam",
    "look",
    "redundancy",
    "spatial_energy",
]
