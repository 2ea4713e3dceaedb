"""Runs as tasks of a Ray cluster: Ray decides where they are made, and makes those of a lost machine again."""

import os
import socket
import sys
import warnings
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from ...errors import WhatwhereError, need
from ..jobs import Job, Outcome
from .elsewhere import Elsewhere
from .registry import Needs, register

RETRIES = 10
"""How many times Ray makes a run again whose process or machine was lost; each time it goes on where it was."""


@register("ray")
class RayExecutor:
    """Tasks of a Ray cluster, at ADDRESS, or the one that runs on this machine, or one that is started here for the
    study.

    A run takes as many CPUs as it has threads and processes that load images, and a GPU where the cluster has any.
    Ray's token authentication is on (``RAY_AUTH_MODE=token``) unless ``RAY_AUTH_MODE`` says otherwise. Where Ray is
    initialised already in this process, that connection is used and left open.

    Args:
        options: the address, ``HOST:PORT`` or ``ray://HOST:PORT``, or an empty string.
        needs: what a run needs.

    Raises:
        MissingExtra: Ray is not installed.
        WhatwhereError: on entering, where nothing answers at the address, or it does not take the token.
    """

    def __init__(self, options: str, needs: Needs) -> None:
        if "ray" not in sys.modules:  # which reads it when it is imported
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        self.ray = need("ray", extra="ray")
        self.address = options or None
        self.needs = needs
        self.references: list[Any] = []

    def __enter__(self) -> "RayExecutor":
        ray = self.ray
        self.ours = not ray.is_initialized()
        if self.ours:
            _knock(self.address)
            started = {} if self.address else {"include_dashboard": False}
            settings = {name: value for name, value in os.environ.items() if name.startswith("WHATWHERE_")}
            environment = {"env_vars": settings} if settings else None
            try:
                ray.init(self.address, log_to_driver=False, logging_level="ERROR", runtime_env=environment, **started)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
                raise WhatwhereError(
                    f"{self._cluster} does not let this study in: {str(error).splitlines()[0].rstrip('.')}. Give the "
                    "cluster's token in RAY_AUTH_TOKEN or ~/.ray/auth_token; for a cluster without one set "
                    "RAY_AUTH_MODE=disabled. Ray and Python must be of the same version there and here"
                ) from error
        there = ray.cluster_resources()
        gpus = 1 if self.needs.gpu and there.get("GPU") else 0
        most = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
        if most < self.needs.cpus:
            warnings.warn(
                f"a run needs {self.needs.cpus} CPUs, and no machine of {self._cluster} has more than {most:g}: runs "
                "wait until one joins (fewer: --threads)",
                RuntimeWarning,
                stacklevel=2,
            )
        self.task = ray.remote(_make).options(
            num_cpus=self.needs.cpus, num_gpus=gpus, max_retries=RETRIES, name="whatwhere study"
        )
        self.references = []
        return self

    def submit(self, job: Job) -> "Future[Outcome]":
        """Hand a run to Ray, which begins it as soon as a machine has room."""
        future: Future[Outcome] = Future()
        reference = self.task.remote(Elsewhere(job, self.needs.out))
        self.references.append(reference)
        reference.future().add_done_callback(lambda done: self._pass_on(job, done, future))
        return future

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for reference in self.references:
                self.ray.cancel(reference, force=True)
        self.references = []
        if self.ours:
            self.ray.shutdown()

    @property
    def _cluster(self) -> str:
        return f"the Ray cluster at {self.address}" if self.address else "the Ray cluster"

    def _pass_on(self, job: Job, done: "Future[Any]", future: "Future[Outcome]") -> None:
        """Give ``future`` what Ray's future came to."""
        error = done.exception()
        result = None if error else done.result()
        if isinstance(result, Outcome):
            future.set_result(result)
        elif isinstance(result, WhatwhereError):
            future.set_exception(result)
        elif isinstance(error, self.ray.exceptions.RayTaskError):
            future.set_exception(error)
        else:
            lost = WhatwhereError(
                f"{job.arm}, seed {job.seed}: Ray gave the run up, after {RETRIES} retries or because the cluster is "
                f"gone ({type(error).__name__}: {error}). What is finished is kept; the same command goes on"
            )
            lost.__cause__ = error
            future.set_exception(lost)


def _make(run: Elsewhere) -> Outcome | WhatwhereError:
    """Make a run, in a worker of Ray."""
    return run()


def _knock(address: str | None) -> None:
    """Check that something answers at ``HOST:PORT``; Ray itself waits for a minute and ends the process."""
    if address is None or address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise WhatwhereError(f"--on ray:{address}: the address is HOST:PORT, such as 10.0.0.5:6379, or ray://HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise WhatwhereError(
            f"nothing answers at {host}, port {port} ({error}): start a cluster (ray start --head), or leave out the "
            "address to use this machine"
        ) from error
