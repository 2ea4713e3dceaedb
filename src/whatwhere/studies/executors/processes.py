"""Runs in worker processes of this machine, each of which makes one run after the other."""

import os
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType

import torch

from ...errors import WhatwhereError
from ..jobs import Job, Outcome, run_job
from .registry import Needs, register


class ProcessExecutor:
    """The executor of studies by default: ``workers`` runs at a time, each with ``threads`` CPU threads.

    Workers end with the process that started them, however it ends.

    Raises:
        WhatwhereError: on leaving, where a worker ended without an error of its own (no memory, or a script without a
            guard).
    """

    def __init__(self, workers: int, threads: int) -> None:
        self.workers = workers
        self.threads = threads

    def __enter__(self) -> "ProcessExecutor":
        self.pool = ProcessPoolExecutor(self.workers, get_context("spawn"), _start_worker, (self.threads, os.getpid()))
        return self

    def submit(self, job: Job) -> "Future[Outcome]":
        """Put a job into the queue of the workers."""
        return self.pool.submit(run_job, job)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for process in list((self.pool._processes or {}).values()):
                process.terminate()
        self.pool.shutdown(wait=True, cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise WhatwhereError(
                "a training process ended without an error message. In a script, start a study below "
                "`if __name__ == '__main__':`; otherwise the machine may have been short of memory: try fewer at a "
                "time (jobs=1). What is finished is kept"
            ) from error


@register("processes")
def _processes(options: str, needs: Needs) -> ProcessExecutor:
    """Worker processes of this machine."""
    if options:
        raise WhatwhereError(f"--on processes:{options}: processes has no options (--jobs says how many run at a time)")
    return ProcessExecutor(needs.at_once, needs.threads)


def _start_worker(threads: int, parent: int) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
