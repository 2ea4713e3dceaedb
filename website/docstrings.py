"""Docstrings as Markdown: the roles and formulas of Sphinx that they have, for mkdocstrings."""

import re
from collections.abc import Callable

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`(~?)([^`]+)`")
MATH = re.compile(
    r"^(?P<indent> *)\.\. math::(?P<first>.*)\n(?P<rest>(?:(?P=indent) +\S.*\n|[ ]*\n(?=(?P=indent) {4}))*)", re.M
)
BRACKETS = re.compile(r"(```.*?```|`[^`]*`)|\]\[", re.DOTALL)
EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*\n(?:(?P=indent)\S.*\n)*", re.M)


class Docstrings(griffe.Extension):
    """Rewrites every docstring of a package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        """Rewrite the docstrings of a package."""
        self._rewrite(pkg)

    def _rewrite(self, obj: griffe.Object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value, obj.resolve)
        for member in obj.members.values():
            if isinstance(member, griffe.Object):
                self._rewrite(member)


def markdown(text: str, resolve: Callable[[str], str]) -> str:
    r"""Return a docstring with its roles as links, its formulas between ``\(...\)`` and its examples fenced.

    Args:
        text: the docstring.
        resolve: returns the whole path of a name, or raises ``griffe.NameResolutionError``.
    """

    def link(found: re.Match[str]) -> str:
        short, name = found.groups()
        shown = f"<code>{name.rpartition('.')[2] if short else name}</code>"
        try:
            path = name if name.startswith("whatwhere.") else resolve(name)
        except griffe.NameResolutionError:
            return shown
        return f'<autoref optional identifier="{path}">{shown}</autoref>' if path.startswith("whatwhere.") else shown

    def block(found: re.Match[str]) -> str:
        formula = "\n".join(filter(None, [found["first"].strip(), *map(str.strip, found["rest"].splitlines())]))
        if "\\\\" in formula or "&" in formula:
            formula = f"\\begin{{aligned}}{formula}\\end{{aligned}}"
        formula = formula.replace("\n", " ")
        return f"\n{found['indent']}\\[{formula}\\]\n\n"

    def fence(found: re.Match[str]) -> str:
        indent = found["indent"]
        return f"{indent}```pycon\n{found[0]}{indent}```\n"

    text = MATH.sub(block, text + "\n")
    text = re.sub(r":math:`([^`]+)`", lambda found: rf"\({found[1]}\)", text)
    text = ROLE.sub(link, text)
    text = EXAMPLE.sub(fence, text)
    return BRACKETS.sub(lambda found: found[1] or r"]\[", text).rstrip("\n")
