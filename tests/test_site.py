"""The site of the documents: it builds without a warning, shows what docstrings say, and fits a phone."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

griffe = pytest.importorskip("griffe")
pytest.importorskip("mkdocs")
pytest.importorskip("latex2mathml")

from website import hooks  # noqa: E402
from website.command_line import help_of  # noqa: E402
from website.docstrings import markdown  # noqa: E402

ROOT = Path(__file__).parents[1]


def resolve(name):
    if name == "unknown":
        raise griffe.NameResolutionError(name)
    return f"whatwhere.package.{name}"


def test_roles_become_links():
    text = markdown("See :func:`load`, :class:`~torch.nn.Module` and :data:`unknown`.", resolve)
    assert '<autoref optional identifier="whatwhere.package.load"><code>load</code></autoref>' in text
    assert "<code>Module</code>" in text
    assert "and <code>unknown</code>." in text


def test_formulas_become_mathml():
    text = markdown("Gates:\n\n.. math::\n    a &= b \\\\\n    c &= d\n\nwhere :math:`a` is one.\n", resolve)
    assert "\\[\\begin{aligned}a &= b \\\\ c &= d\\end{aligned}\\]" in text
    assert "\\(a\\)" in text
    page = '<p><span class="arithmatex">\\(x_1 &lt; 2\\)</span></p><div class="arithmatex">\\[y\\]</div>'
    shown = hooks.on_page_content(page)
    assert shown.count("<math") == 2
    assert "arithmatex" not in shown


def test_examples_are_code():
    assert markdown("Example:\n    >>> 1 + 1\n    2\n", resolve).endswith("    ```pycon\n    >>> 1 + 1\n    2\n    ```")


def test_brackets_of_a_grammar_are_no_link():
    assert markdown("NAME[:paper][:OPTION] and `a[0][1]`", resolve) == "NAME[:paper]\\[:OPTION] and `a[0][1]`"


def test_help_is_that_of_the_command_line():
    assert "--attention" in help_of("train", "classify")
    assert "\x1b" not in help_of("sites")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built in a process of its own, where a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds(site):
    pages = {str(page.relative_to(site)): page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    assert {"index.html", "guide.html", "command-line.html", "api/layers.html"} <= set(pages)
    for name, text in pages.items():
        assert not re.search(r":(?:func|class|meth|mod|data|attr|math):", text), name
        assert not re.search(r'<(?:script|img|iframe)[^>]* src="(?:https?:)?//', text), name
        assert not re.search(r'<link[^>]* rel="stylesheet"[^>]* href="(?:https?:)?//', text), name
    assert "<math" in pages["api/layers.html"]
    assert 'href="../api/surgery.html' in pages["api/index.html"] or 'href="surgery.html' in pages["api/index.html"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_scrolls_sideways(site, width, browser, tmp_path):
    """Each page in a frame as wide as a phone or a screen: what is wider scrolls in its own box."""
    names = sorted(str(page.relative_to(site)) for page in site.rglob("*.html") if page.name != "404.html")
    frames = "".join(f'<iframe src="{name}" width="{width}" height="800"></iframe>' for name in names)
    script = """<script>onload = () => { document.title = [...document.querySelectorAll("iframe")].map(frame => {
        const page = frame.contentDocument.documentElement;
        return page.scrollWidth > page.clientWidth ? frame.getAttribute("src") : "" }).join(" ").trim() || "fits" }
        </script>"""
    (site / "frames.html").write_text(f"<title></title>{frames}{script}", encoding="utf-8")
    try:
        found = re.search(
            r"<title>(.*?)</title>", browser(site / "frames.html", flags=["--allow-file-access-from-files"])
        )
    finally:
        (site / "frames.html").unlink()
    assert found is not None
    assert found[1] == "fits"
