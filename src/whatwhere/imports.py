"""Modules of one's own that register attentions, tasks or executors: named once, imported in every process.

The command line takes their names with ``--import``. They are kept in the environment variable ``WHATWHERE_IMPORT``, so
that the processes of a study, which look names up themselves, import them too.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import WhatwhereError

VARIABLE = "WHATWHERE_IMPORT"
"""Names of modules and paths of files, separated as in PATH."""


def import_modules(names: Sequence[str]) -> None:
    """Import modules, here and in every process that is started from here.

    Args:
        names: of modules that Python finds, or that lie in the current folder; or paths of ``.py`` files.

    Raises:
        WhatwhereError: there is no such module or file, or it raises when it is imported.

    Example:
        >>> import_modules(["no_such_module"])
        Traceback (most recent call last):
        ...
        whatwhere.errors.WhatwhereError: --import no_such_module: there is no such module. Give a module that Python ...
    """
    for name in names:
        there = str(Path(name).absolute()) if name.endswith(".py") else name
        if os.pathsep in there:
            raise WhatwhereError(f"--import {name}: {os.pathsep!r} cannot be in it: rename it")
        _import(there)
        os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*named(), there]))


def named() -> tuple[str, ...]:
    """Return the modules and files that were named so far, here or where this process was started."""
    return tuple(name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name)


def import_named() -> None:
    """Import what :func:`named` returns, unless that is done.

    Raises:
        WhatwhereError: as for :func:`import_modules`.
    """
    for name in named():
        _import(name)


def _import(name: str) -> None:
    file = name.endswith(".py")
    if not file and name in sys.modules:
        return
    if file and not Path(name).is_file():
        raise WhatwhereError(f"--import {name}: there is no such file. Give the path of a .py file, or a module's name")
    try:
        if file:
            _import_file(Path(name))
        elif _exists(name):
            importlib.import_module(name)
        else:
            raise WhatwhereError(
                f"--import {name}: there is no such module. Give a module that Python finds (installed, in the current "
                "folder or on PYTHONPATH), or the path of a .py file"
            )
    except WhatwhereError:
        raise
    except Exception as error:  # the user's own code: anything can come
        where = _place(error, name)
        raise WhatwhereError(f"--import {name} fails{where}: {type(error).__name__}: {error}") from error


def _exists(name: str) -> bool:
    """Whether Python finds a module; the current folder is added where it is found there only."""
    try:
        if importlib.util.find_spec(name) is not None:
            return True
    except (ImportError, ValueError):
        pass
    first = Path(name.partition(".")[0])
    if first.is_dir() or first.with_suffix(".py").is_file():
        sys.path.append(str(Path.cwd()))
        importlib.invalidate_caches()
        try:
            return importlib.util.find_spec(name) is not None
        except (ImportError, ValueError):
            return False
    return False


def _import_file(path: Path) -> None:
    """Import a file under its own name; what lies beside it can be imported from it, as from a script."""
    before = sys.modules.get(path.stem)
    if before is not None:
        other = getattr(before, "__file__", None)
        if other is not None and Path(other).resolve() == path.resolve():
            return
        raise WhatwhereError(f"--import {path}: there is a module {path.stem} already ({other}): rename the file")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise


def _place(error: Exception, name: str) -> str:
    """Return the line of the user's file that raised, in words, where that is known."""
    if isinstance(error, SyntaxError):
        return f" in line {error.lineno}"
    trace, line = error.__traceback__, 0
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file == name or Path(file).stem == name.rpartition(".")[2]:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" in line {line}" if line else ""
