"""Studies: is attention worth its cost? Many runs, statistics, tables, plots, a report."""

from ..cost.measure import Cost, measure_costs
from ..cost.stopwatch import Timing
from .conduct import study
from .config import PRESETS, StudyConfig
from .executors import Needs, ProcessExecutor
from .executors import register as register_executor
from .jobs import Executor, Job, Outcome, run_job
from .results import Results, Row
from .statistics import Interval, interval, paired, verdict

__all__ = [
    "PRESETS",
    "Cost",
    "Executor",
    "Interval",
    "Job",
    "Needs",
    "Outcome",
    "ProcessExecutor",
    "Results",
    "Row",
    "StudyConfig",
    "Timing",
    "interval",
    "measure_costs",
    "paired",
    "register_executor",
    "run_job",
    "study",
    "verdict",
]
