"""What the documents say is true: their Python runs, their commands parse, their table is the registry's."""

import re
import shlex
from pathlib import Path

import pytest

from whatwhere import cli

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(document, language):
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if blocks(d, "python")], ids=lambda d: d.name)
def test_python_runs(document, tmp_path, monkeypatch, capsys):
    """All blocks of a document, one after the other, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, code in enumerate(blocks(document, "python")):
        exec(compile(code, f"{document.name} block {number}", "exec"), names)


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
            elif words[:1] in (["whatwhere"], ["./dev"]) and words[1:2] not in (["test"], ["check"], ["site"]):
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
