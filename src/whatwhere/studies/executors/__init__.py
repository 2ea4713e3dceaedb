"""Where the runs of a study are made: each executor is one file, found by its name in ``--on NAME[:OPTIONS]``."""

from .processes import ProcessExecutor
from .registry import Entry, Needs, entry, make_executor, names, register

__all__ = ["Entry", "Needs", "ProcessExecutor", "entry", "make_executor", "names", "register"]
