"""Which backend runs: chosen at each call by device, dtype and layout, or forced.

A backend is a record here and a module with the moves of :mod:`whatwhere.ops.moves`, imported when it is first needed.
"""

import importlib
import importlib.util
import os
import warnings
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..errors import WhatwhereError, closest

REFERENCE = "reference"
_VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])
_LARGEST = 2**24  # numbers of positions and channels are kept in float32


@dataclass(frozen=True)
class Backend:
    """A faster implementation of the ops.

    Attributes:
        name: as :func:`backend` and ``WHATWHERE_BACKEND`` know it; also the module in :mod:`whatwhere.ops`.
        device: type of the devices that it serves.
        package: the compiler that it needs installed.
        dtypes: the dtypes of maps for which "auto" chooses it.
        forced_dtypes: further dtypes that it takes when it is forced.
    """

    name: str
    device: str
    package: str
    dtypes: tuple[torch.dtype, ...]
    forced_dtypes: tuple[torch.dtype, ...] = ()

    def load(self) -> ModuleType:
        """Import its module."""
        return importlib.import_module(f"{__package__}.{self.name}")


_HALF = (torch.float32, torch.bfloat16, torch.float16)
BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("cpu", "cpu", "numba", _HALF, (torch.float64,)),
        Backend("cuda", "cuda", "triton", _HALF, (torch.float64,)),
    )
}
_CHOICES = ("auto", REFERENCE, *BACKENDS)
_installed = {b.package: importlib.util.find_spec(b.package) is not None for b in BACKENDS.values()}
_warned: set[str] = set()


class _ProcessChoice:
    """A choice for the whole process, with the two methods of a ``ContextVar``."""

    def __init__(self) -> None:
        self.name = ""

    def get(self) -> str:
        """Return the choice."""
        return self.name

    def set(self, name: str) -> None:
        """Make a choice."""
        self.name = name


# An empty string: nothing is chosen here, the process's choice holds. Before 2.14 ``torch.compile`` cannot read a
# ContextVar.
_choice: Any = _ProcessChoice() if _VERSION < (2, 14) else ContextVar("whatwhere_backend", default="")


class backend:
    """Choose the backend of all ops, from now on or inside a ``with`` block.

    The choice holds for the current context, as :mod:`contextvars` has it: other threads keep theirs, tasks of asyncio
    inherit it. A new thread starts with what the environment variable ``WHATWHERE_BACKEND`` says (read at import,
    otherwise ``"auto"``). So do the threads that PyTorch starts, for ``DataParallel`` or to run a checkpoint's forward
    again on a GPU: set the variable to choose for them too. Before PyTorch 2.14 a choice holds for all threads.

    ``torch.compile`` compiles anew when the choice changes. A choice inside a compiled function breaks the graph:
    choose outside. The backward of an activation checkpoint runs the forward again: run it inside the block too.

    Args:
        name: ``"auto"`` (the fastest that can run), ``"reference"`` (plain PyTorch), ``"cpu"`` (Numba) or ``"cuda"``
            (Triton).

    Raises:
        WhatwhereError: an unknown name; later, by an op, where the chosen backend cannot run.

    Example:
        >>> import torch, whatwhere as ww
        >>> with ww.backend("reference"):
        ...     ww.ops.which(torch.randn(1, 8, 4, 4))
        'reference'
    """

    def __init__(self, name: str) -> None:
        self.name = _check(name, "")
        self.before: str = _choice.get()
        _choice.set(name)

    def __enter__(self) -> None:
        """Make the choice again, in case this object is used a second time."""
        _choice.set(self.name)

    def __exit__(self, *error: object) -> None:
        """Go back to what was chosen before."""
        _choice.set(self.before)


def which(x: Tensor) -> str:
    """Say which backend would run an op on this map: ``"cpu"``, ``"cuda"`` or ``"reference"``.

    Raises:
        WhatwhereError: a backend is forced that cannot run on it.

    Example:
        >>> import torch, whatwhere as ww
        >>> ww.ops.which(torch.randn(1, 8, 4, 4, device="meta"))
        'reference'
    """
    return choose(x, warn=False)


def load(x: Tensor) -> ModuleType:
    """Return the module with the moves for the device of a map."""
    return _modules[x.device.type]


class _Modules(dict[str, ModuleType]):
    def __missing__(self, device: str) -> ModuleType:
        module = self[device] = next(b for b in BACKENDS.values() if b.device == device).load()
        return module


_modules = _Modules()


def choose(x: Tensor, warn: bool = True) -> str:
    """Return the backend for a map; warn once for each reason why no fast backend can take it."""
    chosen = _choice.get() or _default
    if chosen == REFERENCE or _is_exporting() or x.device.type == "meta":
        return REFERENCE
    if not torch.compiler.is_compiling() and _is_transformed(x):
        return REFERENCE
    if chosen == "auto":
        found = next((b for b in BACKENDS.values() if b.device == x.device.type), None)
        obstacle = (
            f"there is none for the device {x.device.type}" if found is None else _obstacle(found, x, found.dtypes)
        )
    else:
        found = BACKENDS[chosen]
        obstacle = _obstacle(found, x, found.dtypes + found.forced_dtypes)
        if obstacle:
            raise WhatwhereError(
                f"the backend {found.name!r} is forced, but {obstacle}: choose 'auto' to fall back to plain PyTorch"
            )
    if found is None or obstacle:
        if warn and not torch.compiler.is_compiling():
            _warn(obstacle)
        return REFERENCE
    return found.name


def _obstacle(candidate: Backend, x: Tensor, dtypes: tuple[torch.dtype, ...]) -> str:
    """Return why a backend cannot take a map; an empty string if it can."""
    if x.device.type != candidate.device:
        return f"the map is on {x.device.type}"
    if x.dtype not in dtypes:
        return f"it takes no {x.dtype} (only {', '.join(str(d).removeprefix('torch.') for d in dtypes)})"
    if x.dim() != 4 or max(x.shape[1], x.shape[2] * x.shape[3]) >= _LARGEST:
        return f"it takes maps (N, C, H, W) with C and H·W below {_LARGEST}, not {tuple(x.shape)}"
    if not (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)):
        return "the map is neither contiguous nor channels_last (call .contiguous() on it)"
    if not _installed[candidate.package]:
        return f"{candidate.package} is not installed (pip install 'whatwhere[fast]')"
    return ""


def _is_exporting() -> bool:
    """Whether ``torch.export`` is tracing. Before 2.15 ``is_exporting()`` is also true under ``torch.compile``; that is
    ignored here.
    """
    return torch.compiler.is_exporting() and not (_VERSION < (2, 15) and torch.compiler.is_dynamo_compiling())


def _is_transformed(x: Tensor) -> bool:
    """Whether the tensor is under torch.func, forward-mode AD or ``torch.jit.trace``, for which only plain PyTorch
    works.
    """
    functorch: Any = torch._C._functorch
    jit: Any = torch.jit
    ahead: Any = forward_ad
    if functorch.is_functorch_wrapped_tensor(x) or jit.is_tracing():
        return True
    return bool(ahead._current_level >= 0 and ahead.unpack_dual(x).tangent is not None)


def _warn(obstacle: str) -> None:
    if obstacle not in _warned:
        _warned.add(obstacle)
        warnings.warn(f"no fast backend: {obstacle}; plain PyTorch runs instead", stacklevel=5)


def _check(name: str, where: str) -> str:
    if name not in _CHOICES:
        raise WhatwhereError(
            f"unknown backend {name!r}{where}: one of {', '.join(_CHOICES)}{closest(str(name), _CHOICES)}"
        )
    return name


_default = _check(os.environ.get("WHATWHERE_BACKEND", "auto"), " in the environment variable WHATWHERE_BACKEND")
