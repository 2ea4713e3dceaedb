"""What a network costs: parameters, multiply-adds, time, memory."""

from .counts import count_multiply_adds, count_parameters
from .measure import Cost, measure_costs
from .stopwatch import Measurement, Timing, measure_in_turn, time_in_turn

__all__ = [
    "Cost",
    "Measurement",
    "Timing",
    "count_multiply_adds",
    "count_parameters",
    "measure_costs",
    "measure_in_turn",
    "time_in_turn",
]
