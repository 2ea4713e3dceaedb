"""The options that all benchmarks share."""

import fnmatch
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from whatwhere.cost.stopwatch import BLOCK, ROUNDS, Measurement, measure_in_turn
from whatwhere.errors import WhatwhereError, closest

from .conditions import with_allocator

MEMORY_FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
MemoryFormat = Literal["nchw", "channels_last"]


@dataclass(frozen=True)
class Setting:
    """How to measure."""

    contenders: tuple[str, ...] = ()
    """Only these, by name or glob ("ours-*"); by default all, with --quick those that nothing is compiled for."""
    seconds: float = 10.0
    """How long each group of contenders is timed, all of them together; at least five rounds are made."""
    device: str = "cpu"
    """"cpu" or "cuda"."""
    threads: int | None = None
    """Threads of PyTorch; by default as many as it takes by itself."""
    allocator: Literal["default", "tuned"] = "default"
    """"tuned" starts the program anew with glibc told to keep large blocks. By default it gives them back to the
    system, and every new map costs page faults: a fixed price on everything that allocates, which hides what the
    contenders themselves do."""
    out: Path | None = None
    """Where the results go: OUT.json and OUT.md. By default runs/benchmarks/NAME."""
    quick: bool = False
    """Try everything out in seconds, on something small. The figures mean nothing."""

    @property
    def rounds(self) -> int:
        """Rounds at least."""
        return 2 if self.quick else ROUNDS

    @property
    def block(self) -> float:
        """Milliseconds of a turn at least."""
        return 1.0 if self.quick else BLOCK

    @property
    def budget(self) -> float:
        """Seconds for a group of contenders."""
        return min(self.seconds, 0.1) if self.quick else self.seconds

    @property
    def where(self) -> torch.device:
        """The device."""
        return torch.device(self.device)

    def time(self, calls: Mapping[str, Callable[[], Any]], check: Callable[[str, Any], None]) -> dict[str, Measurement]:
        """Time the calls in turn as the options say."""
        return measure_in_turn(calls, self.where, self.budget, rounds=self.rounds, block=self.block, inspect=check)

    def choose(self, names: Iterable[str]) -> list[str]:
        """Return the names that are asked for, in their own order.

        Raises:
            WhatwhereError: a pattern that fits no name.
        """
        known = list(names)
        if not self.contenders:
            return [name for name in known if not (self.quick and name.endswith("+compile"))]
        for pattern in self.contenders:
            if not fnmatch.filter(known, pattern):
                raise WhatwhereError(
                    f"no contender fits {pattern!r}{closest(pattern, known)}. There are: {', '.join(known)}"
                )
        return [name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.contenders)]


def run(kind: Any, module: str, arguments: Sequence[str] | None, work: Callable[[Any], None]) -> int:
    """Read the options of a benchmark from the command line and do its work; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    setting = tyro.cli(kind, prog=f"python -m {module}", args=words, description=inspect.cleandoc(kind.__doc__))
    with_allocator(setting.allocator, module, words)
    before = torch.get_num_threads()
    if setting.threads is not None:
        torch.set_num_threads(setting.threads)
    try:
        work(setting)
    except WhatwhereError as error:
        print(f"{module}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the files hold what was measured so far", file=sys.stderr)
        return 130
    finally:
        torch.set_num_threads(before)
    return 0
