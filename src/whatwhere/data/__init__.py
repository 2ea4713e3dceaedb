"""Pictures in: the built-in digit scenes, image folders, batches and light augmentation."""

from whatwhere.data.augment import AUGMENTATIONS, augment
from whatwhere.data.batches import EpochBatches
from whatwhere.data.config import DataConfig, open_data
from whatwhere.data.folders import open_folder
from whatwhere.data.pictures import Broken, MemoryPictures, PictureSet, Splits
from whatwhere.data.scenes import SceneConfig, Scenes, open_scenes

__all__ = [
    "AUGMENTATIONS",
    "Broken",
    "DataConfig",
    "EpochBatches",
    "MemoryPictures",
    "PictureSet",
    "SceneConfig",
    "Scenes",
    "Splits",
    "augment",
    "open_data",
    "open_folder",
    "open_scenes",
]
