"""Hooks of MkDocs: pages that are made and not written, links that lead out of docs, formulas as MathML."""

import html
import inspect
import logging
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from website.command_line import command_line  # noqa: E402
from website.notebook import as_markdown  # noqa: E402

log = logging.getLogger("mkdocs.hooks.whatwhere")
PACKAGES = {
    "layers": "Attentions as modules",
    "placement": "Where attention can go",
    "surgery": "Into networks and out again",
    "networks": "Networks",
    "checkpoints": "Weights in and out",
    "ops": "Squeeze and apply",
    "graph": "One recorded pass",
    "cost": "What a network costs",
    "data": "Images",
    "views": "What a network looks at",
    "tasks": "Tasks",
    "training": "Training",
    "studies": "Studies",
    "deploy": "Export and folding",
    "errors": "Errors",
}
MERMAID = "mermaid-11.17.2.min.js"
MATH = re.compile(r'<(span|div) class="arithmatex">(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the made pages into the navigation, and leave out documents that are not there."""
    docs = Path(config.docs_dir)
    made = {"index.md", "changes.md", "command-line.md"}
    entries = _present(
        config.nav, lambda page: page in made or (docs / page).exists() or (docs / page).with_suffix(".ipynb").exists()
    )
    for entry in entries:
        (title, pages), *_ = entry.items()
        if title == "Reference":
            pages += [{"Python": [{"whatwhere": "api/index.md"}, *({p: f"api/{p}.md"} for p in PACKAGES)]}]
        if title == "Attentions":
            pages += [{path.stem: f"family/{path.name}"} for path in sorted((docs / "family").glob("*.md"))]
    config.nav = entries
    return config


def _present(entries: Any, there: Any) -> list[Any]:
    kept = []
    for entry in entries:
        (title, what), *_ = entry.items()
        what = _present(what, there) if isinstance(what, list) else what if there(what) else None
        if what:
            kept.append({title: what})
    return kept


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    pages = {
        "index.md": _from_root(ROOT / "README.md"),
        "changes.md": _from_root(ROOT / "CHANGELOG.md"),
        "command-line.md": command_line(),
        "api/index.md": _overview(),
        **{f"api/{package}.md": _reference(package) for package in PACKAGES},
        "assets/site.css": (Path(__file__).parent / "site.css").read_text(encoding="utf-8"),
    }
    for notebook in sorted(Path(config.docs_dir).glob("*.ipynb")):
        markdown, images = as_markdown(notebook)
        pages[f"{notebook.stem}.md"] = markdown
        for name, content in images.items():
            files.append(File.generated(config, name, content=content))
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    if (script := mermaid_script()) is not None:
        files.append(File.generated(config, f"assets/{MERMAID}", abs_src_path=str(script)))
    return files


def mermaid_script() -> Path | None:
    """Return Mermaid's script, from the npm registry once; None where that cannot be had.

    Without it the charts are drawn by the script that the theme asks a content network for, at the reader's.
    """
    folder = ROOT / "build" / "mermaid"
    script = folder / MERMAID
    version = MERMAID.removeprefix("mermaid-").removesuffix(".min.js")
    if not script.exists() and shutil.which("npm"):
        folder.mkdir(parents=True, exist_ok=True)
        packed, inside = folder / f"mermaid-{version}.tgz", "package/dist/mermaid.min.js"
        try:
            subprocess.run(
                ["npm", "pack", f"mermaid@{version}"], cwd=folder, check=True, capture_output=True, timeout=120
            )
            shutil.unpack_archive(packed, folder, "gztar", filter="data")
            (folder / inside).replace(script)
        except (OSError, subprocess.SubprocessError, shutil.ReadError) as error:
            log.info("Mermaid's script cannot be had from npm: %s", error)
        finally:
            packed.unlink(missing_ok=True)
            shutil.rmtree(folder / "package", ignore_errors=True)
    if not script.exists():
        log.info("charts will be drawn with a script from a content network: no npm here, or no registry")
        return None
    return script


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to notebooks lead to their pages."""
    return re.sub(r"(\]\([^)]*)\.ipynb\)", r"\1.md)", markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Formulas become MathML, which browsers show without a script."""
    return MATH.sub(lambda found: _mathml(found[2], "inline") if found[2] else _mathml(found[3], "block"), content)


def _mathml(formula: str, display: str) -> str:
    lined = re.sub(r"(begin|end)\{aligned\}", r"\1{align*}", html.unescape(formula).strip())
    try:
        return convert(lined.replace(r"\begin{align*}", r"\begin{align*}{}"), display=display)
    except Exception as error:
        raise PluginError(f"a formula cannot be read: {formula!r}: {error}") from error


def on_post_page(output: str, page: Any, config: MkDocsConfig) -> str:
    """Load Mermaid's script where there is a chart, from the site itself."""
    if 'class="mermaid"' not in output or not (ROOT / "build" / "mermaid" / MERMAID).exists():
        return output
    up = "../" * page.url.count("/")
    return output.replace("</head>", f'<script src="{up}assets/{MERMAID}"></script></head>', 1)


def _from_root(path: Path) -> str:
    """Return a document of the root with its links as they are from docs."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"(\]\()docs/", r"\1", text).replace("](CHANGELOG.md)", "](changes.md)")
    return re.sub(r"\[([^\]]+)\]\((?:LICENSE|CITATION\.cff|pyproject\.toml)\)", r"\1", text)


def _overview() -> str:
    """Return the page of what ``import whatwhere`` gives."""
    package = import_module("whatwhere")
    rows = []
    for name in sorted(package.__all__, key=lambda name: (name.lower(), name)):
        what = getattr(package, name)
        if inspect.isclass(what) or inspect.isfunction(what):
            first = (inspect.getdoc(what) or "").split("\n\n")[0].replace("\n", " ")
            first = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", first).replace("``", "`").replace("|", "\\|")
            rows.append(f"| [`ww.{name}`][{_path(what)}] | {first} |")
    text = "# Python: `import whatwhere as ww`\n\nEverything that the package itself has; the pages beside this one "
    return text + "have the packages in it.\n\n| name | what it is |\n| --- | --- |\n" + "\n".join(rows) + "\n"


def _reference(package: str) -> str:
    """Return the page of a package: everything in its ``__all__``, read from the docstrings by mkdocstrings."""
    module = import_module(f"whatwhere.{package}")
    about = (inspect.getdoc(module) or "").split("\n\n")[0]
    found: dict[str, str] = {}
    for name in sorted(public_names(module), key=lambda name: (name.lower(), name)):
        what = getattr(module, name)
        if inspect.ismodule(what):
            continue
        path = _path(what) if inspect.isclass(what) or inspect.isfunction(what) else f"whatwhere.{package}.{name}"
        if path.startswith(f"whatwhere.{package}."):
            found.setdefault(path, name)
    blocks = [f"::: {path}" for path in found]
    about = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", about)
    return f"# `whatwhere.{package}`: {PACKAGES[package].lower()}\n\n{about}\n\n" + "\n\n".join(blocks) + "\n"


def public_names(module: Any) -> list[str]:
    """Return the names that a module has for others: its ``__all__``, or else the classes and functions in it."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    own = {name: what for name, what in vars(module).items() if getattr(what, "__module__", "") == module.__name__}
    return [name for name in own if not name.startswith("_")]


def _path(what: Any) -> str:
    return f"{what.__module__}.{what.__qualname__}"
