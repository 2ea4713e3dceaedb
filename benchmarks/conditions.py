"""The conditions of a measurement: machine, versions, threads, allocator, state of the repository."""

import os
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from whatwhere.training.machine import describe_machine

ROOT = Path(__file__).parents[1]
TUNED = {"MALLOC_TRIM_THRESHOLD_": str(16 << 30), "MALLOC_MMAP_THRESHOLD_": str(16 << 30)}
"""What keeps glibc from giving large blocks back to the system, which zeroes their pages anew at every call."""
_PACKAGES = ("torch", "timm", "torchvision", "numba", "triton", "numpy")
_PREFIXES = (
    "MALLOC_",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "NUMBA_",
    "TORCH",
    "PYTORCH",
    "WHATWHERE_",
)


def with_allocator(which: str, module: str, words: list[str]) -> None:
    """Start ``python -m module words`` anew in this process's place if the allocator's environment is not yet as asked
    for.
    """
    if which == "default" or all(os.environ.get(name) == value for name, value in TUNED.items()):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-m", module, *words], {**os.environ, **TUNED})


def describe_conditions(allocator: str, device: str) -> dict[str, Any]:
    """Return all of it, for JSON."""
    return {
        "device": device,
        "machine": describe_machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "versions": {"python": sys.version.split()[0], **{name: _version(name) for name in _PACKAGES}},
        "threads": torch.get_num_threads(),
        "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0],
        "allocator": allocator,
        "page_faults_of_64_MiB": page_faults(),
        "huge_pages": _first_line("/sys/kernel/mm/transparent_hugepage/enabled"),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_PREFIXES)},
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": len((_git("status", "--porcelain") or "").splitlines()),
    }


def page_faults() -> int:
    """Return the page faults of a 64 MiB tensor that is made repeatedly: near 0 if the allocator keeps its pages."""
    for _ in range(3):
        torch.ones(16 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def in_words(conditions: dict[str, Any]) -> str:
    """Return the conditions as the foot of a table."""
    machine = conditions["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items() if version)
    commit = (conditions["commit"] or "unknown")[:12]
    changed = f" with {conditions['changed_files']} changed files" if conditions["changed_files"] else ""
    where = f"{machine['processor']} ({conditions['cpu_capability']})"
    if conditions["device"] != "cpu":
        where = f"{machine.get('gpu', conditions['device'])}, {where}"
    return (
        f"{where}, {conditions['threads']} threads on {conditions['affinity']} cores, {machine['memory']}; {versions}; "
        f"whatwhere {machine['whatwhere']} at {commit}{changed}; allocator {conditions['allocator']} "
        f"({conditions['page_faults_of_64_MiB']} page faults for a new 64 MiB tensor); "
        f"load {conditions['load']:.1f} at the start."
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
