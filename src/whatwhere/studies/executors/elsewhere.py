"""A run as it travels to another machine: it finds its folder there, and sends back an outcome or why there is none."""

import os
from contextlib import chdir, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...errors import WhatwhereError, need
from ..folder import STUDY
from ..jobs import Job, Outcome, run_job


@dataclass(frozen=True)
class Elsewhere:
    """A run that can be pickled, sent to another machine and called there.

    Relative paths, those of images for example, mean there what they mean here, as far as the folder exists there.

    Attributes:
        job: the run.
        out: the study's folder, which both machines must see at the same path.
        cwd: the folder in which the study was started.
    """

    job: Job
    out: Path
    cwd: Path = field(default_factory=Path.cwd)

    def __call__(self) -> Outcome | WhatwhereError:
        """Make the run, or go on with it. What a user can put right is returned as an error, not raised."""
        out = self.cwd / self.out
        try:
            check_folder(out)
            with chdir(self.cwd) if self.cwd.is_dir() else nullcontext():
                return run_job(replace(self.job, folder=self.cwd / self.job.folder))
        except WhatwhereError as error:
            return WhatwhereError(str(error))

    def checkpoint(self) -> Any:
        """Return what submitit submits again after a preemption or a time limit: the same run, which goes on from its
        last checkpoint."""
        return need("submitit", extra="slurm").helpers.DelayedSubmission(self)


def check_folder(out: Path) -> None:
    """Check that a study's folder is there, on the machine that is to make a run of it.

    Raises:
        WhatwhereError: it is not there, or cannot be written.
    """
    if not (out / STUDY).exists():
        raise WhatwhereError(
            f"a machine that makes runs does not see the study's folder {out}: give an --out that all machines share, "
            "at the same path"
        )
    if not os.access(out, os.W_OK):
        raise WhatwhereError(f"a machine that makes runs cannot write to the study's folder {out}")
