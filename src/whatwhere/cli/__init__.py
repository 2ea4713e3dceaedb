"""The command line: one dataclass a command, the same that Python callers use where there is one."""

import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import tyro
from rich.markup import escape

from ..errors import WhatwhereError
from .facts import Cost, Names, Sites, WarmUp
from .out import Export, Fold
from .show import ERR
from .work import Classify, Look, Study

ABOUT = """Channel attention ("what") and spatial attention ("where") for convolutional networks.

  whatwhere study                                     is attention worth its cost? on built-in images, in minutes
  whatwhere study --data DIR --model resnet18         the same on your images (train/ and test/, a folder per class)
  whatwhere train classify --data DIR --attention cbam
  whatwhere look IMAGE --run runs/classify          what does the network see?
  whatwhere export runs/classify                      a file that runs elsewhere: ONNX, also in int8
  whatwhere fold runs/classify                        which gates do not move, and what it saves to fold them away
  whatwhere cost resnet50 --attention se cbam         what does attention cost?
  whatwhere sites resnet50                            where would it go?
  whatwhere names                                     which attentions are there?
  whatwhere warmup                                    compile the fast kernels now rather than at the first call
"""

TASKS: dict[str, Any] = {"classify": Classify}
COMMANDS: dict[str, Any] = {
    "study": Study,
    "train": Classify,
    "look": Look,
    "export": Export,
    "fold": Fold,
    "cost": Cost,
    "sites": Sites,
    "names": Names,
    "warmup": WarmUp,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 2 for what the user can mend, 130 when interrupted."""
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
    """Return the command that the words ask for, not yet run; what cannot be read ends the program with status 2."""
    if words[:1] == ["train"]:
        return _parse(TASKS, words[1:], "whatwhere train", "Train a network. The task says what it learns.")
    return _parse(COMMANDS, words, "whatwhere", ABOUT)


def _parse(commands: dict[str, Callable[..., Any]], words: Sequence[str], prog: str, about: str) -> Any:
    return tyro.extras.subcommand_cli_from_dict(
        commands,
        prog=prog,
        description=about,
        args=list(words),
        config=(tyro.conf.OmitArgPrefixes,),
    )
