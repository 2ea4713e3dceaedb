"""Runs as jobs of SLURM, through submitit: SLURM decides when and where; runs survive preemption and time limits."""

import json
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ...errors import WhatwhereError, need
from ...files import write_text
from ..jobs import Job, Outcome
from .elsewhere import Elsewhere
from .registry import Needs, register
from .slurm_options import read_slurm

RETRIES = 3
"""How many times a run is submitted again whose job ended without saying anything: killed, or lost with its machine."""

SETTLE = 0.3
"""Seconds without another submission after which those that came together are submitted, as one array."""

GOING = ("PENDING", "RUNNING", "REQUEUED", "COMPLETING", "CONFIGURING", "RESIZING", "SUSPENDED", "PREEMPTED")
"""States of SLURM in which a job is still to end."""


@dataclass
class _Run:
    """A run on its way: what is asked for, what it will come to, its job, and how often it was submitted again."""

    job: Job
    future: "Future[Outcome]"
    submitted: Any = None
    retries: int = 0

    @property
    def key(self) -> str:
        return f"{self.job.folder.parent.name}/{self.job.folder.name}"


@register("slurm")
class SlurmExecutor:
    """Jobs of SLURM, one array for all runs of a study, with any options of sbatch.

    Scripts, logs and results of the jobs lie in ``slurm/`` in the study's folder. Jobs whose study was killed go on,
    and a study that is started again waits for them rather than submit them again; one that is interrupted, or fails,
    cancels them. ``cluster=local`` makes each run in a process of this machine instead, all at once, to try things out.

    Args:
        options: ``OPTION=VALUE[:OPTION=VALUE...]``, see :func:`read_slurm`.
        needs: what a run needs.

    Raises:
        MissingExtra: submitit is not installed.
        WhatwhereError: options that cannot be, or there is no SLURM here; what SLURM itself refuses is the error of the
            runs.
    """

    def __init__(self, options: str, needs: Needs) -> None:
        self.submitit = need("submitit", extra="slurm")
        self.needs = needs
        self.cluster, self.restarts, self.parameters = read_slurm(options, needs)
        if self.cluster == "slurm" and self.submitit.SlurmExecutor.affinity() <= 0:
            raise WhatwhereError(
                "there is no SLURM on this machine: srun is not on the PATH. Start the study on a machine from which "
                "jobs are submitted, or try it with --on slurm:cluster=local"
            )

    def __enter__(self) -> "SlurmExecutor":
        self.folder = self.needs.out.absolute() / "slurm"
        self.record = self.folder / f"{self.cluster}.json"
        self.engine = self.submitit.AutoExecutor(
            self.folder, cluster=self.cluster, **{f"{self.cluster}_max_num_timeout": self.restarts}
        )
        self.engine.update_parameters(**self.parameters)
        self.new: list[_Run] = []
        self.going: list[_Run] = []
        self.last_submitted = 0.0
        self.lock = threading.Lock()
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def submit(self, job: Job) -> "Future[Outcome]":
        """Have a run submitted, together with those that are submitted in the same moment."""
        run = _Run(job, Future())
        with self.lock:
            self.new.append(run)
            self.last_submitted = time.monotonic()
        return run.future

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end.set()
        self.thread.join()
        if error is not None:
            for run in self.going:
                run.submitted.cancel(check=False)

    def _watch(self) -> None:
        """Submit what is new and finish what is done, until the study leaves."""
        while not self.end.wait(0.1):
            with self.lock:
                ready = self.new and time.monotonic() - self.last_submitted > SETTLE
                runs, self.new = (self.new, []) if ready else ([], self.new)
            self._finish()
            try:
                if runs:
                    self._submit(runs)
            except Exception as error:  # whatever it is, the runs that wait must hear of it
                for run in runs:
                    run.future.set_exception(error)

    def _submit(self, runs: list[_Run]) -> None:
        """Submit runs as an array, except those whose jobs still go on from an earlier call of the study."""
        earlier = self._read_record()
        for run in runs:
            if run.key in earlier and not run.retries:
                before = self._job_class(self.folder, earlier[run.key])
                run.submitted = before if before.state.upper() in GOING else None
        left = [run for run in runs if run.submitted is None]
        if left:
            try:
                with self.engine.batch():
                    for run in left:
                        run.submitted = self.engine.submit(Elsewhere(run.job, self.needs.out))
            except (self.submitit.core.utils.FailedJobError, self.submitit.core.utils.FailedSubmissionError) as error:
                raise WhatwhereError(f"SLURM refused the jobs of this study: {str(error).strip()}") from error
            self._write_record({**earlier, **{run.key: run.submitted.job_id for run in left}})
        self.going += runs

    def _finish(self) -> None:
        for run in list(self.going):
            if run.submitted.done():
                self.going.remove(run)
                try:
                    self._take(run)
                except Exception as error:  # whatever it is, the run that waits must hear of it
                    run.future.set_exception(error)

    def _take(self, run: _Run) -> None:
        """Take what a job came to, or submit the run again where the job is gone: it goes on where it was."""
        try:
            result = run.submitted.result()
        except self.submitit.core.utils.FailedJobError:
            raise
        except self.submitit.core.utils.UncompletedJobError as error:
            if run.retries == RETRIES:
                raise WhatwhereError(
                    f"{run.job.arm}, seed {run.job.seed}: its job ended {RETRIES + 1} times without saying why (short "
                    f"of memory?). What is finished is kept; the logs are in {self.folder}. {error}"
                ) from error
            run.retries += 1
            run.submitted = None
            self._submit([run])
        else:
            if isinstance(result, WhatwhereError):
                raise result
            run.future.set_result(result)

    @property
    def _job_class(self) -> Any:
        return self.engine._executor.job_class

    def _read_record(self) -> dict[str, str]:
        """Return the jobs of an earlier call of the study, by run."""
        try:
            return dict(json.loads(self.record.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def _write_record(self, jobs: dict[str, str]) -> None:
        write_text(self.record, json.dumps(jobs, indent=2) + "\n")
