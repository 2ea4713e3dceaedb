"""What a network learns: each task is one file that says model, data, loss and metrics."""

from .config import plain, restore
from .task import Batch, Entry, Pictures, Task, create, entry, names, register

__all__ = ["Batch", "Entry", "Pictures", "Task", "create", "entry", "names", "plain", "register", "restore"]
