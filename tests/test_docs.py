"""What the documents say is true: their Python runs, their commands parse, their table is the registry's."""

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from whatwhere import cli

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PEERS = ROOT / "docs" / "use-with.md"  # about packages that need not be here: section by section, among the slow tests


def blocks_of(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def blocks(document, language):
    return blocks_of(document.read_text(encoding="utf-8"), language)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d != PEERS and blocks(d, "python")], ids=lambda d: d.name)
def test_python_runs(document, tmp_path, monkeypatch, capsys):
    """All blocks of a document, one after the other, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, code in enumerate(blocks(document, "python")):
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
def test_commands_parse(document):
    """Every command of a document is one that exists, with options that exist."""
    found = 0
    for block in blocks(document, SHELL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:2] == ["python", "-m"]:
                module = ROOT / Path(*words[2].split("."))
                assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), words[2]
            elif words[:1] in (["whatwhere"], ["./dev"]) and words[1:2] not in (["test"], ["check"]):
                cli.read(words[1:])
            found += bool(words)
    assert found


def test_the_readmes_table_is_the_registrys(capsys):
    assert cli.main(["names", "--markdown"]) == 0
    assert capsys.readouterr().out.strip() in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if re.search(LINK, d.read_text(encoding="utf-8"))], ids=lambda d: d.name
)
def test_links_lead_somewhere(document):
    for target in re.findall(LINK, document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target
