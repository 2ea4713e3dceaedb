"""The most memory that a call holds at one time."""

import os
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch


def peak_memory(call: Callable[[], Any], device: torch.device) -> int:
    """Return the most bytes that one call had allocated on ``device`` beyond what was there before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return int(torch.cuda.max_memory_allocated(device) - before)
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it reports its own start on standard error otherwise
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    peak: int = max(accumulate(changes, initial=0))
    return peak
