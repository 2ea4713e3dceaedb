"""Studies: is attention worth its cost? Many runs, statistics, tables, plots, a report."""

from ..cost.measure import Cost, measure_costs
from ..cost.stopwatch import Timing
from .conduct import study
from .config import PRESETS, StudyConfig
from .jobs import Executor, Job, Outcome, run_job
from .processes import ProcessExecutor
from .results import Results, Row
from .statistics import Interval, interval, paired, verdict

__all__ = [
    "PRESETS",
    "Cost",
    "Executor",
    "Interval",
    "Job",
    "Outcome",
    "ProcessExecutor",
    "Results",
    "Row",
    "StudyConfig",
    "Timing",
    "interval",
    "measure_costs",
    "paired",
    "run_job",
    "study",
    "verdict",
]
