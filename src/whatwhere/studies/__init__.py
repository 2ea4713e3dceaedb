"""Is it worth it? Many runs, honest statistics, tables, plots, a report."""

from ..cost.measure import Cost, measure_costs
from ..cost.stopwatch import Timing
from .conduct import study
from .config import PRESETS, StudyConfig
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
