"""What a network learns: each task is one file that says model, data, loss and metrics."""

from .config import plain, restore
from .task import Batch, Dataset, Entry, Task, create, entry, names, register

__all__ = ["Batch", "Dataset", "Entry", "Task", "create", "entry", "names", "plain", "register", "restore"]
