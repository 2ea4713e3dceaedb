"""The house's own rules: which room leans on which, and what the front door opens onto."""

import ast
import subprocess
import sys
from pathlib import Path

import whatwhere as ww

SOURCE = Path(ww.__file__).parent
ROOMS = [
    "errors",
    "files",
    "tables",
    "ops",
    "layers",
    "networks",
    "views",
    "data",
    "tasks",
    "training",
    "studies",
    "deploy",
    "cli",
]


def imported_rooms(file):
    """Rooms that a file imports from, wherever in it the import stands."""
    parts = file.relative_to(SOURCE).with_suffix("").parts
    package = ("whatwhere", *(parts if file.name == "__init__.py" else parts[:-1]))
    package = tuple(p for p in package if p != "__init__")
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            full = (*base, *(node.module.split(".") if node.module else ()))
            targets = [full] if len(full) > 1 else [(*full, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            targets = [tuple(alias.name.split(".")) for alias in node.names]
        else:
            continue
        yield from (t[1] for t in targets if t[0] == "whatwhere" and len(t) > 1)


def test_a_room_leans_only_on_rooms_above_it():
    wrong = []
    for file in SOURCE.rglob("*.py"):
        room = file.relative_to(SOURCE).with_suffix("").parts[0]
        if room in ("__init__", "__main__"):
            continue
        allowed = [*ROOMS[: ROOMS.index(room) + 1], "__version__"]
        wrong += [
            f"{file.relative_to(SOURCE)} leans on {other}" for other in imported_rooms(file) if other not in allowed
        ]
    assert wrong == []


def test_public_names_are_there():
    assert [name for name in ww.__all__ if not hasattr(ww, name)] == []


def test_importing_is_light():
    heavy = [
        "timm",
        "torchvision",
        "accelerate",
        "sklearn",
        "scipy",
        "matplotlib",
        "pytorch_grad_cam",
        "torchmetrics",
        "PIL",
        "tyro",
    ]
    code = f"import sys, whatwhere; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_file_is_short():
    long = {
        str(f.relative_to(SOURCE)): n
        for f in SOURCE.rglob("*.py")
        if (n := len(f.read_text(encoding="utf-8").splitlines())) > 330
    }
    assert long == {}
