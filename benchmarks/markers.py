"""Tables that commands put into documents, between two markers."""

from pathlib import Path

from whatwhere.errors import WhatwhereError
from whatwhere.files import write_text


def around(path: Path, name: str) -> tuple[str, str]:
    """Return what stands before and after the table ``name`` of a document, each with its marker.

    Raises:
        WhatwhereError: the file does not have ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``, each once.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if any(text.count(marker) != 1 for marker in (begin, end)):
        raise WhatwhereError(f"{path} must be a file with the markers {begin} and {end}, each once")
    return text[: text.index(begin) + len(begin)], text[text.index(end) :]


def put_between(path: Path, name: str, table: str) -> None:
    """Put a table into a document in place of the one that it has."""
    before, after = around(path, name)
    write_text(path, f"{before}\n\n{table}\n\n{after}")
