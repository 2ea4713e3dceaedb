"""Makes the table and the pages of docs/family from the registry, the docstrings and what was measured."""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import whatwhere as ww
from benchmarks.markers import put_between
from whatwhere.layers import entry
from whatwhere.tables import markdown_table

from .flow import flow_chart
from .measure import names_by_kind

Found = Mapping[str, Mapping[str, Any]]
"""What was measured, by the name of the attention: the fields of :class:`benchmarks.family.measure.Facts`."""
GENERATED = "<!-- Made by python -m benchmarks.family pages: change the docstring, not this page. -->"


def family_table(found: Found, folder: str = "") -> str:
    """Return the table of all attentions, with links to their pages in a folder."""
    rows = []
    for name in names_by_kind():
        one, facts = entry(name), found[name]
        rows.append(
            [
                f"[`{name}`]({folder}{name}.md)",
                one.title,
                one.kind,
                f"{facts['parameters']:,}",
                f"{facts['multiply_adds'] / 1e6:.2f} M",
                "x" if facts["start"] == 0 else f"{100 * facts['start']:.0f} %",
                "yes" if one.exact_identity else "no",
                _ratio(facts, "ours", "copy"),
                _ratio(facts, "official", "ours"),
            ]
        )
    titles = ["name", "what it is", "kind", "parameters", "multiply-adds", "start", "identity start", "time / copy"]
    return markdown_table([*titles, "official code / ours"], rows)


def page(name: str, facts: Mapping[str, Any]) -> str:
    """Return the page of one attention."""
    found = entry(name)
    attention = ww.create(name, 256)
    what = [
        f"{facts['parameters']:,} parameters at 256 channels; {facts['multiply_adds'] / 1e6:.2f} million multiply-adds "
        "for a map of 14 × 14.",
        "As its authors start it, it returns its input."
        if facts["start"] == 0
        else f"As its authors start it, it changes normal random input by {100 * facts['start']:.0f} % of its norm."
        + (" With `identity=True` by nothing." if found.exact_identity else ""),
    ]
    timed = [
        [_WHO[who].format(facts["official"]), f"{facts['milliseconds'][who]:.2f}", f"{facts['spread'][who]:.0f} %"]
        for who in ("copy", "ours", "official")
        if who in facts["milliseconds"]
    ]
    size = f"8 maps of {facts['channels']} × {facts['side']} × {facts['side']}"
    parts = [
        GENERATED,
        f"# {found.title[0].upper()}{found.title[1:]}: `{name}`",
        f"`ww.{found.cls.__name__}` · kind: {found.kind} · {found.paper} · <{found.code}>",
        f"`{found.formula}`",
        "## What it does to a map",
        f"Recorded by `torch.export`, for a map of C × H × W.\n\n```mermaid\n{flow_chart(attention)}\n```",
        "## What it costs",
        " ".join(what),
        f"A forward and a backward pass over {size}, in turn, medians:",
        markdown_table(["", "ms", "half the distance of the quartiles"], timed),
        "## In detail",
        docstring(found.cls),
    ]
    return "\n\n".join(parts) + "\n"


def docstring(cls: type) -> str:
    """Return a class's docstring as Markdown: formulas as math, options as a list, the example as code."""
    text = re.sub(r":(?:class|func|meth|mod|data|attr|math):`~?([^`]+)`", r"``\1``", inspect.getdoc(cls) or "")
    parts = []
    for block in re.split(r"\n(?=\.\. math::|[A-Z][\w' -]*:\n)|(?<=\n)\n(?=\S)", text):
        head, _, body = block.partition("\n")
        body = inspect.cleandoc(body) if body.strip() else ""
        if head.startswith(".. math::"):
            formula = "\n".join(part for part in (head.removeprefix(".. math::").strip(), body) if part)
            lined = r"\\" in formula or "&" in formula
            formula = f"\\begin{{aligned}}\n{formula}\n\\end{{aligned}}" if lined else formula
            parts.append(f"```math\n{formula}\n```")
        elif head == "Args:":
            parts.append("**Options**\n\n" + "\n".join(_items(body)))
        elif head == "Example:":
            parts.append(f"**Example**\n\n```pycon\n{body}\n```")
        elif re.fullmatch(r"[A-Z][\w' -]*:", head):
            parts.append(f"**{head.removesuffix(':')}**\n\n{body}")
        else:
            parts.append(block)
    joined = "\n\n".join(part.strip() for part in parts if part.strip())
    return re.sub(r"(?<!`)``(?!`)", "`", re.sub(r"\n{3,}", "\n\n", joined))


def _items(body: str) -> list[str]:
    return [
        f"- `{name}`: {' '.join(text.split())}" for name, text in re.findall(r"(?ms)^(\w+): (.*?)(?=^\w+: |\Z)", body)
    ]


def _ratio(facts: Mapping[str, Any], who: str, beside: str) -> str:
    times = facts["milliseconds"]
    return f"×{times[who] / times[beside]:.1f}" if who in times and beside in times else "–"


_WHO = {"copy": "a copy of the map", "ours": "whatwhere", "official": "official code ({})"}


def put_table(document: Path, found: Found, conditions: str) -> None:
    """Put the table of all attentions into a document, between its two markers."""
    put_between(document, "family", f"{family_table(found, 'family/')}\n\nTimes: {conditions}.")
