"""One recorded forward pass of a model, and what it takes to run somebody's model and leave it as it was."""

from .batches import Batches
from .difference import difference
from .guard import eager, evaluation_mode
from .probe import probe_inputs, run_on_probe
from .trace import trace
from .values import Call, MemoryFormat, Trace, Value
from .wrappers import check_model, refuse_wrapped, unwrap

__all__ = [
    "Batches",
    "Call",
    "MemoryFormat",
    "Trace",
    "Value",
    "check_model",
    "difference",
    "eager",
    "evaluation_mode",
    "probe_inputs",
    "refuse_wrapped",
    "run_on_probe",
    "trace",
    "unwrap",
]
