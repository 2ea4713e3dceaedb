"""The structure: which package may import which, no circle between files, no attention named outside layers."""

import ast
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import whatwhere as ww
from whatwhere.layers import ATTENTIONS
from whatwhere.training import Recipe

SOURCE = Path(ww.__file__).parent
PACKAGES = [
    "errors",
    "imports",
    "files",
    "tables",
    "options",
    "registry",
    "ops",
    "layers",
    "graph",
    "cost",
    "placement",
    "surgery",
    "networks",
    "checkpoints",
    "data",
    "views",
    "tasks",
    "training",
    "studies",
    "deploy",
    "cli",
]


def module_name(file):
    parts = file.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(SOURCE.rglob("*.py"))}


def imported_files(file):
    """Names of the files that a file imports, in functions and under TYPE_CHECKING too."""
    name = module_name(file)
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                target = f"{base}.{alias.name}" if f"{base}.{alias.name}" in FILES else base
                if target in FILES:
                    yield target


IMPORTS = {name: sorted(set(imported_files(file)) - {name}) for name, file in FILES.items()}


def test_every_package_has_its_level():
    tops = {name.split(".")[1] for name in FILES if "." in name} - {"__main__"}
    assert tops == set(PACKAGES)


def test_a_package_imports_only_from_lower_ones():
    wrong = []
    for name, imported in IMPORTS.items():
        if name.count(".") == 0 or name.endswith("__main__"):
            continue
        allowed = PACKAGES[: PACKAGES.index(name.split(".")[1]) + 1]
        wrong += [
            f"{name} imports {other}" for other in imported if other.split(".")[1:2] not in [[a] for a in allowed]
        ]
    assert wrong == []


def circles():
    """Strongly connected components with more than one file (Tarjan's algorithm)."""
    index, low, stack, found = {}, {}, [], []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in IMPORTS[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                found.append(sorted(component))

    for name in IMPORTS:
        if name not in index:
            visit(name)
    return found


def test_no_files_import_each_other_in_a_circle():
    assert circles() == []


def test_the_circle_test_sees_circles(monkeypatch):
    lowest = "whatwhere.errors"
    monkeypatch.setitem(IMPORTS, lowest, ["whatwhere.ops.attend"])
    assert any(lowest in component and "whatwhere.ops.attend" in component for component in circles())


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
        "datasets",
        "webdataset",
        "ray",
        "submitit",
    ]
    code = f"import sys, whatwhere; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_file_is_short():
    long = {
        str(f.relative_to(SOURCE)): n
        for f in SOURCE.rglob("*.py")
        if (n := len(f.read_text(encoding="utf-8").splitlines())) > 350
    }
    assert long == {}


def named_attentions(tree):
    """Classes of attentions that code names, and names that it decides by (comparisons, dict keys, match patterns)."""
    classes = {e.cls.__name__ for e in ATTENTIONS.values()}
    names = {*ATTENTIONS} - {field.name for field in fields(Recipe)}  # ema: there the average of a training's weights
    for node in ast.walk(tree):
        words = [getattr(node, "id", None), getattr(node, "attr", None)]
        if isinstance(node, ast.alias):
            words += [node.name, node.asname]
        yield from (word for word in words if word in classes)
        parts = {ast.Compare: ("left", "comparators"), ast.Dict: ("keys",), ast.MatchValue: ("value",)}.get(
            type(node), ()
        )
        for part in parts:
            values = getattr(node, part)
            for value in values if isinstance(values, list) else [values]:
                constants = [c.value for c in ast.walk(value) if isinstance(c, ast.Constant)] if value else []
                yield from (c for c in constants if c in names)


ORDINARY = {"whatwhere.data.shards": ["shuffle"]}
"""Words that mean something else there: an option of tar files."""


def test_no_file_outside_layers_names_an_attention():
    found = {}
    for name, file in FILES.items():
        if not name.startswith("whatwhere.layers") and (
            words := sorted(set(named_attentions(ast.parse(file.read_text(encoding="utf-8")))))
        ):
            found[name] = words
    assert found == ORDINARY


def test_the_test_for_names_sees_names():
    for code in (
        "from ..layers import CBAM",
        "ww.SE(8)",
        "isinstance(x, ChannelAttention)",
        "kind = 1 if name == 'cbam' else 2",
        "x in ('se', 'eca')",
        "{'bam': 1}",
        "match x:\n    case 'eca': pass",
    ):
        assert list(named_attentions(ast.parse(code))), code
    assert not list(named_attentions(ast.parse("insert(model, 'cbam'); PRESET = ('se', 'cbam')")))
