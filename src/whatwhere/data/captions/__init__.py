"""Images with sentences: reading them from files, the vocabulary, batches."""

from .config import CaptionDataConfig
from .dataset import CaptionDataset, CaptionSplits, Described
from .opening import open_captions
from .tokens import tokenise
from .vocabulary import Vocabulary

__all__ = [
    "CaptionDataConfig",
    "CaptionDataset",
    "CaptionSplits",
    "Described",
    "Vocabulary",
    "open_captions",
    "tokenise",
]
