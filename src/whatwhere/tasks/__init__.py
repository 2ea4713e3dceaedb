"""What a network learns: each task is one file that says model, data, loss, metrics, and how a result is shown."""

from .config import plain, restore
from .drawing import Drawing
from .images import TaskImages
from .metric import Headline, Metric
from .registry import Entry, create, entry, names, read_config, register
from .task import Batch, CannotDraw, CannotNarrow, CannotWiden, Dataset, Evidence, Stream, Task, in_channels_last

__all__ = [
    "Batch",
    "CannotDraw",
    "CannotNarrow",
    "CannotWiden",
    "Dataset",
    "Drawing",
    "Entry",
    "Evidence",
    "Headline",
    "Metric",
    "Stream",
    "Task",
    "TaskImages",
    "create",
    "entry",
    "in_channels_last",
    "names",
    "plain",
    "read_config",
    "register",
    "restore",
]
