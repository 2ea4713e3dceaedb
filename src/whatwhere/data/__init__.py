"""Images: the built-in digit scenes, image folders, decoding and normalising, batches, augmentation."""

from .augment import AUGMENTATIONS, augment
from .batches import EpochBatches
from .captions import CaptionDataConfig, CaptionDataset, CaptionSplits, Vocabulary, open_captions
from .config import DataConfig, open_data
from .dataset import Broken, ImageDataset, MemoryDataset, Splits
from .detection import (
    DetectionDataConfig,
    DetectionDataset,
    DetectionSplits,
    Problem,
    augment_detection,
    open_detection,
)
from .folders import open_folder
from .image import Unreadable, read_fitted, read_image
from .preprocessing import Preprocessing
from .scenes import SceneConfig, Scenes, open_scenes

__all__ = [
    "AUGMENTATIONS",
    "Broken",
    "CaptionDataConfig",
    "CaptionDataset",
    "CaptionSplits",
    "DataConfig",
    "DetectionDataConfig",
    "DetectionDataset",
    "DetectionSplits",
    "EpochBatches",
    "ImageDataset",
    "MemoryDataset",
    "Preprocessing",
    "Problem",
    "SceneConfig",
    "Scenes",
    "Splits",
    "Unreadable",
    "Vocabulary",
    "augment",
    "augment_detection",
    "open_captions",
    "open_data",
    "open_detection",
    "open_folder",
    "open_scenes",
    "read_fitted",
    "read_image",
]
