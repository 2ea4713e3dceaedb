"""Many runs on one machine: worker processes that each train one run after the other."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ..errors import WhatwhereError
from ..training import NotFinite, Recipe


@dataclass(frozen=True)
class Job:
    """One run to be made: an arm with a seed, in a folder of its own."""

    arm: str
    seed: int
    task: dict[str, Any]
    recipe: Recipe
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        arm: the arm's name.
        seed: the seed.
        curve: the headline metric after each epoch, in percent.
        losses: mean training loss of each epoch.
        seconds: spent on training and measuring.
        broken: images that could not be read.
        error: why the run has no result (its loss stopped being finite), or an empty string.
    """

    arm: str
    seed: int
    curve: list[float]
    losses: list[float]
    seconds: float
    broken: list[str]
    error: str = ""


_opened: dict[str, Any] = {}  # the images that this process has open, for its next run


def run_jobs(
    jobs: Sequence[Job], workers: int, threads: int, on_wait: Callable[[], None] = lambda: None
) -> Iterator[Outcome]:
    """Run all jobs, ``workers`` at a time with ``threads`` CPU threads each, and yield outcomes as they come.

    A run that was finished before is only read; one that was stopped goes on from its last checkpoint. Workers end with the process
    that started them, however it ends. ``on_wait`` is called about twice a second.
    """
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (threads, os.getpid()))
    try:
        open_futures: set[Future[Outcome]] = {pool.submit(run_job, job) for job in jobs}
        while open_futures:
            done, open_futures = wait(open_futures, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            on_wait()
    except BrokenProcessPool as error:
        raise WhatwhereError(
            "a training process ended without a word. In a script, start a study below `if __name__ == '__main__':`; otherwise the machine may "
            "have been short of memory: try fewer at a time (jobs=1). What is finished is kept"
        ) from error
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def run_job(job: Job) -> Outcome:
    """Train one run in this process, or go on with it, or read it if it is finished."""
    from ..tasks import create
    from ..training import train

    task: Any = create("classify", job.task)
    task.splits = _opened.get(repr(job.task["data"]))
    try:
        result = train(task, job.recipe, job.folder, resume=True, progress=False)
        _opened[repr(job.task["data"])] = task.splits
    except NotFinite as error:
        return Outcome(job.arm, job.seed, [], [], 0.0, [], str(error))
    curve = [100 * value for value in result.headline]
    losses = [row["train_loss"] for row in result.rows]
    return Outcome(job.arm, job.seed, curve, losses, result.seconds, result.broken)


def _start_worker(threads: int, parent: int) -> None:
    import torch

    torch.set_num_threads(threads)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
