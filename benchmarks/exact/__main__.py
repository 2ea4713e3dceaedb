"""Compare every attention with its authors' own code."""

import importlib
import json
import pkgutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
import tyro

from benchmarks.markers import around, put_between
from whatwhere.errors import WhatwhereError
from whatwhere.tables import markdown_table

from . import cases
from .case import Case
from .compare import compare

LIMITS = {torch.float32: 1e-5, torch.float64: 1e-10}
"""The largest relative difference that is rounding."""


@dataclass(frozen=True)
class Exact:
    """Compare every attention with its authors' own code: outputs, gradients, running statistics, in both modes.

    The official repositories are looked for in a folder, as ``owner+name`` (a clone, or a folder with the clone in
    ``repo``), and cloned from GitHub where they are not there. Their files are executed. Where no official code runs in
    PyTorch, an installed package that is known to equal it takes its place, with its version for the commit.

    Try:
        python -m benchmarks.exact --repositories ~/official
        python -m benchmarks.exact --names coordatt gc
        python -m benchmarks.exact --write docs/family.md
    """

    names: tuple[str, ...] = ()
    """Attentions; by default all that have official code to compare with."""
    repositories: Path = Path("runs/official")
    """Where clones are, and where new ones go."""
    out: Path | None = None
    """A JSON file for the results."""
    write: Path | None = None
    """Also put the table into this file, between its two markers (<!-- exact: begin --> and end)."""

    def run(self) -> bool:
        """Compare and print; return whether all differences are rounding."""
        if self.write is not None:
            if self.names:
                raise WhatwhereError("--write puts in the table of all attentions: leave --names out")
            around(self.write, "exact")  # raises now, not after the work
        rows, results = [], []
        for case in sorted(all_cases(), key=lambda case: (case.name, case.title)):
            if self.names and case.name not in self.names:
                continue
            version, sources = find_code(self.repositories, case)
            worst = {}
            for dtype, limit in LIMITS.items():
                found = compare(case, sources, dtype)
                measure = max(found, key=found.__getitem__)
                worst[dtype] = found[measure]
                print(f"{case.name} {case.title} {dtype}: {found[measure]:.1e} ({measure})", flush=True)
                results.append(
                    {"name": case.name, "title": case.title, "dtype": str(dtype), "version": version, "limit": limit}
                    | {"repository": case.repository, "path": case.path, "differences": found}
                )
            rows.append(
                [
                    case.name,
                    case.title,
                    f"{case.repository} {version}" if case.installed else f"{case.repository}@{version[:7]}",
                    *(f"{value:.0e}" for value in worst.values()),
                ]
            )
        if self.names and (absent := sorted({*self.names} - {case.name for case in all_cases()})):
            raise WhatwhereError(f"no official code is known here for {', '.join(absent)}")
        table = markdown_table(["attention", "form", "official code", "float32", "float64"], rows)
        print(table)
        if self.write is not None:
            put_between(self.write, "exact", table)
        if self.out is not None:
            self.out.write_text(json.dumps(results, indent=1))
        return all(value <= one["limit"] for one in results for value in one["differences"].values())


def all_cases() -> list[Case]:
    """Return the cases of all modules of the package ``cases``, each of which has a list ``CASES``."""
    modules = [importlib.import_module(f"{cases.__name__}.{m.name}") for m in pkgutil.iter_modules(cases.__path__)]
    return [case for module in modules for case in module.CASES]


def find_code(folder: Path, case: Case) -> tuple[str, list[str]]:
    """Return the commit, or the version of a package, of what a case compares with, and the texts of its files."""
    if case.installed:
        return metadata.version(case.repository), []
    clone = find_clone(folder, case.repository)
    return _git(clone, "rev-parse", "HEAD").strip(), [_git(clone, "show", f"HEAD:{path}") for path in case.files]


def find_clone(folder: Path, repository: str) -> Path:
    """Return the clone of a repository in a folder; make it where there is none."""
    clone = folder / repository.replace("/", "+")
    if not clone.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["git", "clone", "--quiet", f"https://github.com/{repository}", str(clone)]
        if subprocess.run(command, check=False).returncode:
            raise WhatwhereError(f"{repository} could not be cloned into {clone}")
    return clone / "repo" if (clone / "repo").exists() else clone


def _git(clone: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(clone), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise WhatwhereError(f"git {' '.join(arguments)} failed in {clone}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    if not tyro.cli(Exact).run():
        raise SystemExit(1)
