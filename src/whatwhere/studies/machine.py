"""What a figure was measured on."""

import os
import platform
from importlib import metadata
from pathlib import Path

import torch


def describe_machine() -> dict[str, str]:
    """Return processor, cores, memory, GPU and versions in words, for the foot of a table."""
    found = {
        "processor": _processor(),
        "cores": f"{os.cpu_count()} ({torch.get_num_threads()} threads)",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "whatwhere": metadata.version("whatwhere"),
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
