"""Images: digit scenes, folders, Hugging Face datasets, tar files; decoding, normalising, batches, augmentation."""

from .augment import AUGMENTATIONS, augment
from .batches import EpochBatches
from .captions import CaptionDataConfig, CaptionDataset, CaptionSplits, Vocabulary, open_captions
from .config import DataConfig, absolute, open_data
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
from .hugging_face import open_hugging_face
from .image import Unreadable, read_fitted, read_image
from .preprocessing import Preprocessing
from .scenes import SceneConfig, Scenes, open_scenes
from .shards import open_shards

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
    "absolute",
    "augment",
    "augment_detection",
    "open_captions",
    "open_data",
    "open_detection",
    "open_folder",
    "open_hugging_face",
    "open_scenes",
    "open_shards",
    "read_fitted",
    "read_image",
]
