"""Studies: is attention worth its cost? Many runs, statistics, tables, plots, a report."""

from ..cost.measure import Cost, measure_costs
from ..cost.stopwatch import Timing
from .conduct import study
from .config import PRESETS, StudyConfig
from .crossed import crossed_interval
from .executors import Needs, ProcessExecutor
from .executors import register as register_executor
from .jobs import Executor, Job, Outcome, run_job
from .plan import Plan
from .power import power_different, power_same, seeds_needed, smallest_visible
from .results import Results, Row
from .sequence import Analysis
from .statistics import Interval, holm, interval, p_different, p_same, paired, saved_by_pairing
from .verdicts import Rules, Verdict, decide

__all__ = [
    "PRESETS",
    "Analysis",
    "Cost",
    "Executor",
    "Interval",
    "Job",
    "Needs",
    "Outcome",
    "Plan",
    "ProcessExecutor",
    "Results",
    "Row",
    "Rules",
    "StudyConfig",
    "Timing",
    "Verdict",
    "crossed_interval",
    "decide",
    "holm",
    "interval",
    "measure_costs",
    "p_different",
    "p_same",
    "paired",
    "power_different",
    "power_same",
    "register_executor",
    "run_job",
    "saved_by_pairing",
    "seeds_needed",
    "smallest_visible",
    "study",
]
