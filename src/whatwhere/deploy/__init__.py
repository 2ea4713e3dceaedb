"""Out into the world: files that run elsewhere, and gates that do not move folded into the layers before them."""

from .batches import Batches, TaskImages
from .export import Check, ExportReport, export
from .fold import Folded, FoldReport, fold
from .quality import Quality

__all__ = ["Batches", "Check", "ExportReport", "FoldReport", "Folded", "Quality", "TaskImages", "export", "fold"]
