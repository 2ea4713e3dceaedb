"""One training loop for all tasks: recipes, run folders, checkpoints, resume."""

from whatwhere.training.checkpoint import DamagedCheckpoint
from whatwhere.training.loop import NotFinite
from whatwhere.training.recipe import Recipe
from whatwhere.training.result import Result, Run, load_config, load_run
from whatwhere.training.run import train

__all__ = ["DamagedCheckpoint", "NotFinite", "Recipe", "Result", "Run", "load_config", "load_run", "train"]
