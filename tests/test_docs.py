"""What the documents say is true: their Python runs, their commands parse, the README's list is the registry's."""

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_args

import pytest

from whatwhere import cli, imports, layers
from whatwhere.layers import ATTENTIONS
from whatwhere.layers.registry import Kind

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
PEERS = ROOT / "docs" / "use-with.md"  # about packages that need not be here: section by section, among the slow tests


def blocks_of(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def blocks(document, language):
    return blocks_of(document.read_text(encoding="utf-8"), language)


@pytest.fixture
def own_modules(tmp_path, monkeypatch):
    """Return a function that writes the blocks of a document that begin with the name of a file, as a reader would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(imports.VARIABLE, "")
    before, written = set(ATTENTIONS), {}

    def write(document):
        for code in blocks(document, "python"):
            if found := re.match(r"# (\w+)\.py\n", code):
                written[found[1]] = (tmp_path / f"{found[1]}.py").write_text(code, encoding="utf-8")

    yield write
    for module in written:
        sys.modules.pop(module, None)
    for name in set(ATTENTIONS) - before:
        ATTENTIONS.discard(name)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d != PEERS and blocks(d, "python")], ids=lambda d: d.name)
def test_python_runs(document, own_modules, capsys):
    """All blocks of a document, one after the other, as a reader would type them."""
    own_modules(document)
    names = {}
    for number, code in enumerate(blocks(document, "python")):
        if re.match(r"# \w+\.py\n", code):
            continue
        exec(compile(code, f"{document.name} block {number}", "exec"), names)


def sections(document):
    """The code of each section of a document by its heading, after the code in front of the first heading."""
    first, *rest = re.split(r"^## ", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {text.partition("\n")[0]: "\n".join(blocks_of(first + text, "python")) for text in rest}


def imported(code):
    """The packages that a piece of code imports."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


@pytest.mark.slow
@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in sections(PEERS).items()])
def test_a_section_about_another_package_runs(code, tmp_path):
    """Each in its own process, because some of these packages change PyTorch when they are imported."""
    absent = sorted(name for name in set(imported(code)) if importlib.util.find_spec(name) is None)
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)} (extra peers)")
    alone = {"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    (tmp_path / "section.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "section.py"], cwd=tmp_path, env=os.environ | alone, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


SHELL = "(?:bash|console)"
LINK = r"\]\((?!https?:|#)([^)#]+)"


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if blocks(d, SHELL)], ids=lambda d: d.name)
def test_commands_parse(document, own_modules):
    """Every command of a document is one that exists, with options that exist."""
    own_modules(document)
    found = 0
    for block in blocks(document, SHELL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:2] == ["python", "-m"]:
                module = ROOT / Path(*words[2].split("."))
                assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), words[2]
            elif words[:1] in (["whatwhere"], ["./dev"]) and words[1:2] not in (["test"], ["check"], ["site"]):
                rest, modules = cli.take_imports(words[1:])
                imports.import_modules(modules)
                cli.read(rest)
            found += bool(words)
    assert found


def attentions_by_kind():
    """The list of the README, as it has to be: a line a kind, at most 100 columns wide."""
    kinds = {}
    for name in layers.names():
        kinds.setdefault(layers.entry(name).kind, []).append(f"`{name}`")
    lines = (f"- **{kind}**: {', '.join(kinds[kind])}" for kind in get_args(Kind) if kind in kinds)
    return "\n".join(textwrap.fill(line, 100, subsequent_indent="  ") for line in lines)


def test_the_readmes_list_is_the_registrys():
    text = README.read_text(encoding="utf-8")
    found = text.split("<!-- attentions: begin -->\n\n")[1].split("\n\n<!-- attentions: end -->")[0]
    assert found == attentions_by_kind(), f"it has to be:\n{attentions_by_kind()}"


def test_the_readme_is_narrow():
    assert [line for line in README.read_text(encoding="utf-8").splitlines() if len(line) > 100] == []


@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if re.search(LINK, d.read_text(encoding="utf-8"))], ids=lambda d: d.name
)
def test_links_lead_somewhere(document):
    for target in re.findall(LINK, document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target
