"""The page of the command line, from what ``--help`` says."""

import contextlib
import io
import os
import re
from unittest import mock

from whatwhere import cli
from whatwhere.tasks import names

WIDTH = 96
INTRODUCTION = """# Command line

What `--help` says, command by command. An attention is named as in `cbam:paper:reduction=8`: its name, `paper` for
the start of its paper (without it gates start at 1), then its options."""


def command_line() -> str:
    """Return the page."""
    words = [[], *([name] for name in cli.COMMANDS)]
    for command in ("study", "train"):
        tasks = [[command, task] for task in names() if command == "train" or task != "classify"]
        at = words.index([command]) + 1
        words[at:at] = tasks
    parts = [INTRODUCTION]
    for one in words:
        parts += [f"## `{' '.join(['whatwhere', *one])}`", f"```text\n{help_of(*one)}\n```"]
    return "\n\n".join(parts) + "\n"


def help_of(*words: str) -> str:
    """Return what ``whatwhere WORDS --help`` prints, without colours and as wide as a page."""
    said = io.StringIO()
    plain = {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    with (
        mock.patch.dict(os.environ, plain),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        cli.read([*words, "--help"])
    text = re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue())
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()
