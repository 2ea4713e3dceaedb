"""Images with objects in them: digit scenes, Pascal VOC, COCO and YOLO folders, checked and augmented."""

from .augment import augment_detection
from .config import DetectionDataConfig
from .dataset import DetectionDataset, DetectionSplits
from .objects import Problem
from .opening import open_detection

__all__ = [
    "DetectionDataConfig",
    "DetectionDataset",
    "DetectionSplits",
    "Problem",
    "augment_detection",
    "open_detection",
]
