"""Is it worth it? Many runs, honest statistics, tables, plots, a report."""

from .conduct import study
from .config import PRESETS, StudyConfig
from .cost import Cost, Timing, measure_costs
from .results import Results, Row
from .statistics import Interval, interval, paired, verdict

__all__ = [
    "PRESETS",
    "Cost",
    "Interval",
    "Results",
    "Row",
    "StudyConfig",
    "Timing",
    "interval",
    "measure_costs",
    "paired",
    "study",
    "verdict",
]
