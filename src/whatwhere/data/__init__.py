"""Images: the built-in digit scenes, image folders, decoding and normalising, batches, augmentation."""

from .augment import AUGMENTATIONS, augment
from .batches import EpochBatches
from .config import DataConfig, open_data
from .dataset import Broken, ImageDataset, MemoryDataset, Splits
from .folders import open_folder
from .image import Unreadable, read_image
from .preprocessing import Preprocessing
from .scenes import SceneConfig, Scenes, open_scenes

__all__ = [
    "AUGMENTATIONS",
    "Broken",
    "DataConfig",
    "EpochBatches",
    "ImageDataset",
    "MemoryDataset",
    "Preprocessing",
    "SceneConfig",
    "Scenes",
    "Splits",
    "Unreadable",
    "augment",
    "open_data",
    "open_folder",
    "open_scenes",
    "read_image",
]
