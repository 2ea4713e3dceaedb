"""What all files of captions have in common: sentences, the images that they name, and both parts of a data set."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import WhatwhereError
from ..detection.objects import Problem
from .records import CaptionParts, ImageCaptions

Captions = dict[Path, list[str]]
"""The captions of each image, in the order of the file."""


class ImageFinder:
    """Finds the images of a data set by the names that a file gives them, inside the data set's folder only.

    A name may have folders in it. Where there is no such file, the same file name without these folders is looked for,
    as data sets are moved and their files are not.

    Args:
        folder: of the data set.
        places: folders in it that may hold the images, the likeliest first; "" is the folder itself.

    Example:
        >>> finder = ImageFinder(Path("flickr8k"), ["images", ""])
        >>> finder.find("a.jpg").as_posix()  # there is no such file: where it should be
        'flickr8k/images/a.jpg'
        >>> finder.find("../../etc/a.jpg")
        "'../../etc/a.jpg' leads out of flickr8k, left out"
        >>> finder.find("images/")
        "'images/' cannot be the name of an image, left out"
    """

    def __init__(self, folder: Path, places: Sequence[str]) -> None:
        self.folder = folder
        self.places = tuple(dict.fromkeys(places))
        self._there = [place for place in self.places if (folder / place).is_dir()]
        self._roots = [Path(os.path.abspath(folder)), Path(os.path.realpath(folder))]
        self._missed = ""

    def find(self, name: str) -> Path | str:
        """Return the image's path, which is where it should be if there is no such file; or why it is left out."""
        name = name.replace("\\", "/")
        if not _is_text(name) or "\0" in name or name.rsplit("/", 1)[-1] in ("", ".", ".."):
            return f"{name[:80]!r} cannot be the name of an image, left out"
        for guess in self._guesses(name):
            if os.path.isfile(self.folder / guess):  # Path.is_file raises where a name is too long
                return self.folder / guess
        self._missed = self._missed or name
        for guess in (*self._absolute(name), os.path.normpath(name)):
            if _is_inside(guess):
                return self.folder / (guess if os.path.isabs(name) else os.path.join(self.places[0], guess))
        return f"{name[:80]!r} leads out of {self.folder}, left out"

    def where(self) -> str:
        """Say where the first image that is missing was looked for."""
        names = " and ".join(dict.fromkeys((repr(self._missed), repr(self._missed.rsplit("/", 1)[-1]))))
        return f"{names} in {', '.join(str(self.folder / place) for place in self.places)}"

    def _guesses(self, name: str) -> Iterator[str]:
        """Yield where in the folder the image may be."""
        guesses = self._absolute(name)
        if not os.path.isabs(name):
            guesses = [os.path.normpath(os.path.join(place, name)) for place in self._there]
        for guess in guesses:
            if _is_inside(guess):
                yield guess
        for place in self._there:
            yield os.path.join(place, name.rsplit("/", 1)[-1])

    def _absolute(self, name: str) -> list[str]:
        """Return an absolute name as seen from the folder, where it is inside."""
        if not os.path.isabs(name):
            return []
        path = Path(os.path.normpath(name))
        return [str(path.relative_to(root)) for root in self._roots if path.is_relative_to(root)]


def read_json(file: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        WhatwhereError: it cannot be read, or it is not JSON.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "a.json")
        ...     _ = file.write_text('{"images": []}')
        ...     read_json(file)
        {'images': []}
    """
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise WhatwhereError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise WhatwhereError(f"{file} is not JSON ({error}): fetch it again, it may be cut off") from error


def sentence_problem(sentence: Any) -> str:
    """Return why something of a file is no sentence, or "" where it is one.

    Example:
        >>> sentence_problem("A dog."), sentence_problem(3), sentence_problem(" ")
        ('', '3 is not a sentence, left out', 'the sentence is empty, left out')
    """
    if not isinstance(sentence, str):
        return f"{ascii(sentence)[:80]} is not a sentence, left out"
    if not sentence.strip():
        return "the sentence is empty, left out"
    return "" if _is_text(sentence) else f"{sentence[:80]!r} has characters that are not Unicode, left out"


def require_images(file: Path, captions: Captions, finder: ImageFinder) -> None:
    """Raise a WhatwhereError that says where was looked, if ``finder`` named images and none of them is a file.

    Example:
        >>> finder = ImageFinder(Path("data"), ["images", ""])
        >>> require_images(Path("a.json"), {finder.find("a.jpg"): []}, finder)
        Traceback (most recent call last):
        ...
        whatwhere.errors.WhatwhereError: a.json: none of its 1 images is there, looked for 'a.jpg' in data/images, ...
    """
    if captions and not any(map(os.path.isfile, captions)):
        raise WhatwhereError(
            f"{file}: none of its {len(captions)} images is there, looked for {finder.where()}: put the images into "
            "one of these folders"
        )


def make_parts(
    train_source: Path, train: Captions, test_source: Path, test: Captions, problems: Sequence[Problem]
) -> CaptionParts:
    """Return both parts; an image that is in both is only tested on, and that is a problem of the training part.

    Example:
        >>> a, b = Path("a.jpg"), Path("b.jpg")
        >>> parts = make_parts(Path("all.json"), {a: ["A dog."], b: ["A cat."]}, Path("all.json"), {b: ["A cat."]}, [])
        >>> [one.path.name for one in parts.train], [one.path.name for one in parts.test]
        (['a.jpg'], ['b.jpg'])
        >>> print(parts.problems[0])
        all.json, image b.jpg: it is in the test part too, left out of training
    """
    reason = "it is in the test part too, left out of training"
    return CaptionParts(
        [ImageCaptions(path, tuple(found), train_source) for path, found in train.items() if path not in test],
        [ImageCaptions(path, tuple(found), test_source) for path, found in test.items()],
        [*problems, *(Problem(str(train_source), f"image {path.name}", reason) for path in train if path in test)],
    )


def _is_text(value: str) -> bool:
    """Whether a string can be written: JSON may have halves of characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_inside(guess: str) -> bool:
    """Whether a path, seen from a folder, is one inside it."""
    path = Path(guess)
    return not path.anchor and path.parts[:1] != ("..",)
