"""Networks for use elsewhere: exported files, and gates that hardly change folded into the layers beside them."""

from ..graph import Batches
from ..tasks import TaskImages
from .export import Check, ExportReport, export
from .fold import Folded, FoldReport, fold
from .quality import Quality

__all__ = ["Batches", "Check", "ExportReport", "FoldReport", "Folded", "Quality", "TaskImages", "export", "fold"]
