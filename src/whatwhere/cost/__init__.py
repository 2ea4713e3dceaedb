"""What a network costs: parameters, multiply-adds, time, memory."""

from .counts import count_multiply_adds, count_parameters
from .measure import Cost, measure_costs
from .stopwatch import Timing, time_in_turn

__all__ = ["Cost", "Timing", "count_multiply_adds", "count_parameters", "measure_costs", "time_in_turn"]
