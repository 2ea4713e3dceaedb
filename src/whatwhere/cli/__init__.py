"""The command line: one dataclass a command, the same that Python callers use where there is one."""

import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from typing import Any

from rich.markup import escape

from ..errors import WhatwhereError, closest
from .caption import WriteCaptions
from .detect import FindObjects
from .facts import Cost, Names, Sites, WarmUp
from .options import documentation, parse
from .out import Export, Fold
from .redundant import Redundancy
from .show import ERR
from .work import Look, read_study, read_train

ABOUT = """usage: whatwhere COMMAND [options]

Channel attention ("what") and spatial attention ("where") for convolutional networks.

  whatwhere study                                     is attention worth its cost? on built-in images, in minutes
  whatwhere study --data DIR --model resnet18         the same on your images (train/ and test/, a folder per class)
  whatwhere train classify --data DIR --attention cbam
  whatwhere look IMAGE --run runs/classify            what does the network see?
  whatwhere train detect --data DIR                   a detector on VOC, COCO or YOLO folders; alone: on digit scenes
  whatwhere detect IMAGE... --run runs/detect         boxes as JSON, and drawn
  whatwhere train caption --data DIR                  a captioner on COCO, Karpathy's files or a table of sentences
  whatwhere caption IMAGE... --run runs/caption       sentences, and what was looked at for each word
  whatwhere export runs/classify                      a file that runs elsewhere: ONNX, also in int8
  whatwhere fold runs/classify                        which gates do not move, and what it saves to fold them away
  whatwhere redundancy runs/classify                  which maps nearly follow from another one?
  whatwhere cost resnet50 --attention se cbam         what does attention cost?
  whatwhere sites resnet50                            where would it go?
  whatwhere names                                     which attentions are there?
  whatwhere warmup                                    compile the fast kernels now rather than at the first call

whatwhere COMMAND --help tells the options of a command; whatwhere train --help lists the tasks."""


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
    if words[:1] == ["--version"]:
        print(f"whatwhere {metadata.version('whatwhere')}")
        return 0
    try:
        read(words).run()
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
    if not words or words[0] in ("-h", "--help"):
        print(ABOUT, file=sys.stdout if words else sys.stderr)
        raise SystemExit(0 if words else 2)
    name, *rest = words
    if name not in COMMANDS:
        raise WhatwhereError(f"unknown command {name!r}: one of {', '.join(COMMANDS)}{closest(name, COMMANDS)}")
    return COMMANDS[name](rest)
