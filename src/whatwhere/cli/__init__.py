"""The command line: one dataclass a command, the same that Python callers use where there is one."""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from typing import Any

from rich.markup import escape

from ..errors import WhatwhereError, closest
from ..imports import import_modules
from ..tasks import names as tasks
from .caption import WriteCaptions
from .detect import FindObjects
from .facts import Cost, Names, Sites, WarmUp
from .options import documentation, parse
from .out import Export, Fold
from .redundant import Redundancy
from .show import ERR
from .work import Look, read_study, read_train

ABOUT = """usage: whatwhere COMMAND [options]

Channel ("what") and spatial ("where") attention for convolutional networks.

  study                    is attention worth its cost? on built-in images
  train TASK               train a network: classify, detect, caption
  look IMAGE --run RUN     what does the network of a run see in an image?
  detect IMAGE --run RUN   boxes of a trained detector, as JSON and drawn
  caption IMAGE --run RUN  sentences of a trained captioner, word by word
  export RUN               a file that runs elsewhere: ONNX, also in int8
  fold RUN                 fold gates away that do not move
  redundancy NETWORK       which maps nearly follow from another one?
  cost NETWORK             what does attention cost?
  sites NETWORK            where would attention go in a network?
  names                    which attentions are there?
  warmup                   compile the fast kernels now, not at the first call

Start with:  whatwhere study --data DIR --model resnet18
DIR has train/ and val/ or test/, and in each a folder per class.

whatwhere COMMAND --help tells the options of a command, with examples.
--import MODULE or FILE.py, with any command: attentions of your own."""


def take_imports(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take every ``--import NAME`` and ``--import=NAME`` out of the words of a command line, and return the names too.

    Raises:
        WhatwhereError: no name follows.
    """
    rest, names, left = [], [], iter(words)
    for word in left:
        if word == "--import" or word.startswith("--import="):
            name = word.partition("=")[2] or next(left, "")
            if not name or name.startswith("-"):
                raise WhatwhereError("--import needs the name of a module or the path of a .py file")
            names.append(name)
        else:
            rest.append(word)
    return rest, names


def _read(command: type[Any], name: str, words: Sequence[str]) -> Any:
    return parse(command, f"whatwhere {name}", words, help_text=documentation(command))


COMMANDS: dict[str, Callable[[Sequence[str]], Any]] = {
    "study": read_study,
    "train": read_train,
    "look": partial(_read, Look, "look"),
    "detect": partial(_read, FindObjects, "detect"),
    "caption": partial(_read, WriteCaptions, "caption"),
    "export": partial(_read, Export, "export"),
    "fold": partial(_read, Fold, "fold"),
    "redundancy": partial(_read, Redundancy, "redundancy"),
    "cost": partial(_read, Cost, "cost"),
    "sites": partial(_read, Sites, "sites"),
    "names": partial(_read, Names, "names"),
    "warmup": partial(_read, WarmUp, "warmup"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 2 for a mistake of the user, 130 when interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _run(words)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # what read the output has ended, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(words: list[str]) -> int:
    if words[:1] == ["--version"]:
        print(f"whatwhere {metadata.version('whatwhere')}")
        return 0
    try:
        rest, modules = take_imports(words)
        import_modules(modules)
        read(rest).run()
    except WhatwhereError as error:
        ERR.print(f"[bold red]whatwhere:[/] {escape(str(error))}", highlight=False)
        return 2
    except KeyboardInterrupt:
        again = shlex.join(["whatwhere", *words])
        ERR.print(f"stopped. What is finished is kept; to go on (train: with --resume): {again}", markup=False)
        return 130
    return 0


def read(words: Sequence[str]) -> Any:
    """Return the command that the words ask for, not yet run; what cannot be read ends the program with status 2.

    Raises:
        WhatwhereError: an unknown command or task; the message names the nearest.
    """
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(ABOUT, file=sys.stdout if words else sys.stderr)
        raise SystemExit(0 if words else 2)
    name, *rest = words
    if name not in COMMANDS:
        known = {**dict.fromkeys(COMMANDS), **{task: f"train {task}" for task in tasks() if task not in COMMANDS}}
        near = closest(name.lower(), known)
        for task, words_for_it in known.items():
            near = near.replace(f"{task!r}", f"{words_for_it!r}") if words_for_it else near
        raise WhatwhereError(f"unknown command {name!r}: one of {', '.join(COMMANDS)}{near}")
    return COMMANDS[name](rest)
