"""The options of ``--on slurm``: what sbatch takes, and a few of submitit's own."""

import re
from typing import Any

from ...errors import WhatwhereError, closest
from .registry import Needs

RESTARTS = 20
"""How many time limits a run survives, unless ``restarts=`` says otherwise: one that makes no progress must end."""

MINUTES = 60
"""The time limit of a job, unless ``time=`` says otherwise."""

_ONE = ("nodes", "ntasks", "ntasks_per_node", "tasks_per_node")  # a run is one task
_OURS = ("array", "output", "error", "signal", "open_mode", "wrap", "chdir")  # set by submitit
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d+){0,2})")


def read_slurm(options: str, needs: Needs) -> tuple[str, int, dict[str, Any]]:
    """Read ``OPTION=VALUE[:OPTION=VALUE...]``; a colon inside a value is kept, as in ``gres=gpu:a100:1``.

    ``cluster=local`` is for trying things out; ``restarts`` is how many time limits a run survives, ``parallel`` how
    many jobs of the array run at a time, ``setup`` a command before the run (``module load cuda``), ``delay`` how many
    seconds before its end a job is told. Everything else is an option of sbatch, without its dashes, and what sbatch
    does not know it refuses itself.

    Return the cluster, the restarts, and submitit's parameters.

    Example:
        >>> from pathlib import Path
        >>> cluster, restarts, parameters = read_slurm("time=2:00:00:gres=gpu:a100:1:exclusive=true", Needs(Path()))
        >>> cluster, restarts, parameters["timeout_min"], parameters["cpus_per_task"]
        ('slurm', 20, 120, 1)
        >>> parameters["slurm_additional_parameters"]
        {'gres': 'gpu:a100:1', 'exclusive': True}

    Raises:
        WhatwhereError: something that is not ``OPTION=VALUE``, an option that is given twice, is set already or would
            make one run several tasks, or a value that cannot be.
    """
    given: dict[str, str] = {}
    for part in re.split(r":(?=-{0,2}[A-Za-z][\w-]*=)", options) if options else ():
        key, equals, value = part.partition("=")
        key = key.strip().lstrip("-").replace("-", "_")
        if not (equals and key and value):
            raise WhatwhereError(f"{part!r} in --on slurm:{options} is not OPTION=VALUE, such as partition=gpu")
        if key in given:
            raise WhatwhereError(f"{key} is given twice in --on slurm:{options}")
        if (key in _ONE and value != "1") or key in _OURS:
            why = "a run is one task on one machine" if key in _ONE else "the study sets it itself"
            raise WhatwhereError(f"{key}={value} in --on slurm:{options}: {why}; leave it out")
        given[key] = value
    cluster = given.pop("cluster", "slurm")
    if cluster not in ("slurm", "local"):
        raise WhatwhereError(
            f"cluster={cluster}: must be slurm (the default) or local{closest(cluster, ('slurm', 'local'))}"
        )
    cpus = _number("cpus_per_task", given.pop("cpus_per_task", str(needs.cpus)))
    parameters: dict[str, Any] = {
        "name": given.pop("job_name", "whatwhere"),
        "timeout_min": minutes(given.pop("time", str(MINUTES))),
        "cpus_per_task": cpus,
        "slurm_srun_args": [f"--cpus-per-task={cpus}"],  # srun does not take it from sbatch
    }
    restarts = _number("restarts", given.pop("restarts", str(RESTARTS)), low=0)
    for name, theirs in (("parallel", "slurm_array_parallelism"), ("delay", "slurm_signal_delay_s")):
        if name in given:
            parameters[theirs] = _number(name, given.pop(name))
    if "setup" in given:
        parameters["slurm_setup"] = [given.pop("setup")]
    if "gpus_per_node" in given:
        parameters["gpus_per_node"] = _number("gpus_per_node", given.pop("gpus_per_node"))
    rest = {key: True if value == "true" else value for key, value in given.items() if key not in _ONE}
    if rest:
        parameters["slurm_additional_parameters"] = rest
    return cluster, restarts, parameters


def minutes(text: str) -> int:
    """Return a time limit as SLURM writes it in minutes, rounded up.

    Example:
        >>> [minutes(text) for text in ("90", "90:30", "2:00:00", "1-12", "1-12:30")]
        [90, 91, 120, 2160, 2190]

    Raises:
        WhatwhereError: it is no time, or no time at all.
    """
    found = _TIME.fullmatch(text)
    parts = [int(part) for part in found["rest"].split(":")] if found else []
    if found and found["days"] is not None:
        hours, more, seconds = [*parts, 0, 0][:3]
        total = ((int(found["days"]) * 24 + hours) * 60 + more) * 60 + seconds
    elif len(parts) == 3:
        total = (parts[0] * 60 + parts[1]) * 60 + parts[2]
    else:
        total = sum(part * scale for part, scale in zip(parts, (60, 1), strict=False))
    if total <= 0:
        raise WhatwhereError(
            f"time={text}: must be a time limit such as 90 (minutes), 2:00:00 (hours) or 1-12 (days-hours)"
        )
    return -(-total // 60)


def _number(name: str, text: str, low: int = 1) -> int:
    if not text.isdecimal() or int(text) < low:
        raise WhatwhereError(f"{name}={text}: must be a whole number of at least {low}")
    return int(text)
