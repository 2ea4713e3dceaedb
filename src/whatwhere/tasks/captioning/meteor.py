"""METEOR, computed by its authors' Java program."""

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from ...errors import WhatwhereError

_JAR = Path("meteor", "meteor-1.5.jar")


def find_meteor() -> tuple[str, Path]:
    """Return the paths of ``java`` and of METEOR's jar, which is part of the package ``pycocoevalcap``.

    Raises:
        WhatwhereError: one is missing.

    Example:
        >>> java, jar = find_meteor()  # doctest: +SKIP
    """
    java = shutil.which("java")
    spec = importlib.util.find_spec("pycocoevalcap")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    jar = next((Path(folder) / _JAR for folder in folders if (Path(folder) / _JAR).is_file()), None)
    missing = [] if java else ["the command java (a Java runtime, 8 or later)"]
    missing += [] if jar else ["the package pycocoevalcap (pip install pycocoevalcap)"]
    if java is None or jar is None:
        raise WhatwhereError(f"METEOR is computed by a Java program; missing: {' and '.join(missing)}")
    return java, jar


def meteor(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> float:
    """Return METEOR 1.5 of all captions together, for English, with the options of COCO's evaluation.

    Candidate and reference are aligned word by word: equal words, equal stems, synonyms, paraphrases. The score is a
    weighted mean of precision and recall of the aligned words, times a penalty for words in another order; over several
    captions the counts are added up first.

    Denkowski and Lavie, Meteor Universal, ACL workshop 2014; tylin/coco-caption, ``meteor.py``. Deviation: text goes to
    the program as UTF-8, where the reference leaves the encoding to the system.

    Args:
        candidates: the tokens of the caption of each image.
        references: the tokens of each true caption of each image.

    Raises:
        WhatwhereError: Java or the program is missing, or it fails.

    Example:
        >>> captions = [["a", "dog", "runs"]]
        >>> meteor(captions, [captions])  # doctest: +SKIP
        1.0
    """
    java, jar = find_meteor()
    command = [java, "-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    with tempfile.TemporaryFile() as said:
        try:
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, encoding="utf-8", cwd=jar.parent
            ) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                return _ask(process.stdin, process.stdout, candidates, references)
        except (OSError, ValueError) as error:
            said.seek(0)
            words = said.read().decode(errors="replace").strip()
            raise WhatwhereError(f"METEOR's Java program failed: {words or error}") from error


def _ask(
    questions: IO[str],
    answers: IO[str],
    candidates: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
) -> float:
    """Have the program count for each image, then score all counts."""

    def answer(question: str | None = None) -> str:
        if question is not None:
            questions.write(question + "\n")
            questions.flush()
        line = answers.readline()
        if not line:
            raise ValueError("it ended early")
        return line.strip()

    counts = [
        answer(" ||| ".join(["SCORE", *map(_line, truths), _line(candidate)]))
        for candidate, truths in zip(candidates, references, strict=True)
    ]
    answer(" ||| ".join(["EVAL", *counts]))  # the first image's own score; the others follow, then that of all
    for _ in counts[1:]:
        answer()
    return float(answer())


def _line(tokens: Sequence[str]) -> str:
    """Return tokens as text on one line, without the mark that parts fields."""
    return " ".join(" ".join(tokens).replace("|||", "").split())
