"""What a network sees: its gates, Grad-CAM, how much of them is on the object, and which of its maps are alike."""

from .box_cam import box_grad_cam
from .boxes import Drawn, draw_image
from .caption import CaptionLook, WordGates
from .capture import Seen, attended, capture
from .detection import DetectionLook, look_at_boxes
from .energy import area_inside, energy_inside, spatial_energy
from .grad_cam import grad_cam
from .look import look
from .redundancy import redundancy
from .redundancy_result import BestSources, LayerRedundancy, Pair, Redundancy
from .result import Look, View

__all__ = [
    "BestSources",
    "CaptionLook",
    "DetectionLook",
    "Drawn",
    "LayerRedundancy",
    "Look",
    "Pair",
    "Redundancy",
    "Seen",
    "View",
    "WordGates",
    "area_inside",
    "attended",
    "box_grad_cam",
    "capture",
    "draw_image",
    "energy_inside",
    "grad_cam",
    "look",
    "look_at_boxes",
    "redundancy",
    "spatial_energy",
]
