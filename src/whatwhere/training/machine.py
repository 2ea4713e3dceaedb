"""What a run or a figure was made with: the command, the versions, the machine."""

import os
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path

import torch


def command() -> str:
    """Return this process's command line, as it would be typed."""
    program = Path(sys.argv[0]).name
    start = ["python", "-m", "whatwhere"] if program == "__main__.py" else [program]
    return shlex.join([*start, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what a run comes to."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("whatwhere", "accelerate", "timm", "torchvision", "numpy", "datasets", "webdataset"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def kind_of_machine(device: torch.device) -> dict[str, str]:
    """Return what of this machine may change the last bits of a training on ``device``, or its speed; no names of
    machines or users.

    Example:
        >>> sorted(kind_of_machine(torch.device("cpu")))[:4]
        ['cores', 'gpu', 'instructions', 'numpy']
    """
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else "none",
        **{package: version for package, version in versions().items() if package in _DECIDING},
    }


_DECIDING = ("python", "torch", "torchvision", "numpy", "timm", "whatwhere")


def describe_machine() -> dict[str, str]:
    """Return processor, cores, memory, GPU and versions in words, for the foot of a table."""
    found = {
        "processor": _processor(),
        "cores": f"{os.cpu_count()} ({torch.get_num_threads()} threads)",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        **{package: version for package, version in versions().items() if package in ("python", "torch", "whatwhere")},
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return "unknown"
    return f"{size / 2**30:.0f} GiB"
