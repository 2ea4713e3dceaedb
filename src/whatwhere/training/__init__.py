"""One training loop for all tasks: recipes, run folders, checkpoints, resume."""

from ..checkpoints.container import DamagedCheckpoint
from .loop import NotFinite
from .recipe import Recipe
from .result import Result, Run, load_config, load_run
from .run import train

__all__ = ["DamagedCheckpoint", "NotFinite", "Recipe", "Result", "Run", "load_config", "load_run", "train"]
