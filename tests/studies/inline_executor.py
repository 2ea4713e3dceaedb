"""An executor of another package: it makes runs in this process, of as many seeds as its options say."""

from concurrent.futures import Future

from whatwhere.errors import WhatwhereError
from whatwhere.studies import register_executor, run_job


@register_executor("inline")
class Inline:
    """This process, run after run."""

    def __init__(self, options, needs):
        self.seeds = int(options or 1)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def submit(self, job):
        future = Future()
        if job.seed < self.seeds:
            future.set_result(run_job(job))
        else:
            future.set_exception(WhatwhereError(f"inline has no room for seed {job.seed}"))
        return future
