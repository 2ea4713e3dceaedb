"""From dataclasses to options: the configuration of a task, a recipe and a study become a command line."""

import contextlib
import inspect
import io
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from ..networks import ModelConfig

T = TypeVar("T")

IMPORT = "--import MODULE or FILE.py, as often as needed, imports attentions of your own first."
_TITLE = re.compile(r"^([╭─ ]+)(?:\w+\.)*(\w+)( options )([─ ]+)", re.MULTILINE)
_WORDS = {"config": "task", "model": "network", "recipe": "training"}


def parse(command: type[T], prog: str, words: Sequence[str], *, help_text: str, without: Sequence[str] = ()) -> T:
    """Return ``command``, a dataclass, made from the words of a command line.

    What cannot be read ends the program with status 2.

    Every field is an option, those of nested dataclasses too, without the name of the field that holds them. The name
    of a network is the option ``--model``; how many classes it tells apart and its widths are no options, for tasks and
    studies set them.

    Args:
        command: the dataclass.
        prog: what was typed before the words.
        words: the rest of the command line.
        help_text: what ``--help`` says above the options.
        without: fields of the network that are no options either.
    """
    with _plain_titles():
        return tyro.cli(
            command,
            prog=prog,
            args=list(words),
            description=f"{help_text.rstrip()}\n\n{IMPORT}",
            config=(tyro.conf.OmitArgPrefixes,),
            registry=_network_options(("classes", "width", *without)),
        )


class _Screen(io.StringIO):
    """Keeps what is printed, without colours; it can show what the real output can."""

    def __init__(self) -> None:
        super().__init__()
        self.real = getattr(sys.stdout, "encoding", None) or "utf-8"

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.real


@contextlib.contextmanager
def _plain_titles() -> Iterator[None]:
    """Print the help of a command with titles that are no names of fields."""
    shown = _Screen()
    try:
        with contextlib.redirect_stdout(shown):
            yield
    finally:
        sys.stdout.write(_TITLE.sub(_title, shown.getvalue()))


def _title(found: re.Match[str]) -> str:
    title = _WORDS.get(found[2], found[2]) + found[3]
    rest = len(found[0]) - len(found[1]) - len(title)
    return f"{found[1]}{title}{found[4][0] * rest}"


def documentation(cls: type) -> str:
    """Return the docstring of a class, its indentation taken out."""
    return inspect.getdoc(cls) or ""


def _network_options(without: Sequence[str]) -> ConstructorRegistry:
    """Return the rule that makes options of a :class:`whatwhere.ModelConfig`."""
    registry = ConstructorRegistry()

    @registry.struct_rule
    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        if info.type is not ModelConfig:
            return None
        default = info.default if is_dataclass(info.default) else ModelConfig()
        fixed = {name: getattr(default, name) for name in without}
        hints, texts = get_type_hints(ModelConfig), _attributes(ModelConfig)
        options = [
            StructFieldSpec(
                "model" if f.name == "name" else f.name, hints[f.name], getattr(default, f.name), texts[f.name]
            )
            for f in fields(ModelConfig)
            if f.name not in without
        ]

        def make(model: str, **rest: Any) -> ModelConfig:
            return ModelConfig(name=model, **rest, **fixed)

        return StructConstructorSpec(make, tuple(options))

    return registry


def _attributes(cls: type) -> dict[str, str]:
    """Return the texts below ``Attributes:`` in a docstring, without the marks of code."""
    block = documentation(cls).split("Attributes:\n", 1)[-1].split("\n\n", 1)[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", block, re.MULTILINE)
    return {name: re.sub(r":\w+:|`", "", " ".join(text.split())) for name, text in entries}
