"""Karpathy's files: the images and sentences of COCO, Flickr8k or Flickr30k with the splits that papers use."""

import posixpath
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ...errors import WhatwhereError
from ..detection.objects import Problem
from .listing import Captions, ImageFinder, make_parts, read_json, require_images, sentence_problem
from .records import CaptionParts

SPLITS = ("train", "restval", "val", "test")
PLACES = (
    "",
    "images",
    "Images",
    "Flicker8k_Dataset",  # as the data set itself spells it
    "Flickr8k_Dataset",
    "flickr30k-images",
    "flickr30k_images",
)
"""Folders that may hold the images, beside the file."""
_NAMES = "dataset_*.json"


def is_karpathy(path: Path) -> bool:
    """Whether this is a JSON file, or a folder that holds at least one ``dataset_*.json``.

    The file is not opened, as it may have 100 MB; :func:`read_karpathy` says if it is something else, or if the folder
    holds several.

    Example:
        >>> is_karpathy(Path("no such folder")), is_karpathy(Path("no such file.json"))
        (False, False)
    """
    return path.is_file() if path.suffix.lower() == ".json" and not path.is_dir() else bool(_inside(path))


def read_karpathy(path: Path, *, restval: bool = False, test: Literal["val", "test"] = "val") -> CaptionParts:
    """Return the training and the test part of one of Karpathy's files.

    ``{"images": [{"filename", "filepath", "split", "sentences": [{"raw"}]}]}``. An image is the file
    ``filepath/filename``, or ``filename`` alone, beside the file or in one of :data:`PLACES`.

    An image whose file is missing stays, and so does one without sentences. A file in both parts is only tested on.

    Args:
        path: the file, or a folder that holds exactly one ``dataset_*.json``.
        restval: learn also from the split ``restval``: those of COCO's validation images that are neither in ``val``
            nor in ``test``. Many papers do; SCA-CNN's code does not.
        test: the split that is the test part.

    Raises:
        WhatwhereError: no such file or several, a file that is not one of Karpathy's, an empty split, or a part none
            of whose images is there.

    Example:
        >>> import json, tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     images = []
        ...     for name, split in (("a.png", "train"), ("b.png", "val"), ("c.png", "test"), ("d.png", "dev")):
        ...         Image.new("RGB", (8, 8)).save(Path(folder, name))
        ...         images.append({"filename": name, "split": split, "sentences": [{"raw": "A black square."}]})
        ...     _ = Path(folder, "dataset_squares.json").write_text(json.dumps({"images": images}))
        ...     train, test, problems = read_karpathy(Path(folder))
        >>> [one.path.name for one in train], [one.path.name for one in test]
        (['a.png'], ['b.png'])
        >>> problems[0].reason
        "the split is 'dev' and not train, restval, val or test, left out"
    """
    if test not in ("val", "test"):
        raise WhatwhereError(f"test must be 'val' or 'test', got {test!r}")
    file = _file(path)
    content = read_json(file)
    if not isinstance(content, Mapping) or not isinstance(content.get("images"), list):
        has = f"the keys {', '.join(map(repr, content))[:80]}" if isinstance(content, Mapping) else "no keys"
        raise WhatwhereError(f"{file} is not one of Karpathy's files: it needs the list images, it has {has}")
    train: Captions = {}
    tested: Captions = {}
    parts = {"train": train, test: tested} | ({"restval": train} if restval else {})
    finders = {name: ImageFinder(file.parent, PLACES) for name in ("train", test)}
    counts: Counter[str] = Counter()
    problems: list[Problem] = []
    for position, one in enumerate(content["images"], 1):
        split, reason = _split(one)
        if reason:
            problems.append(Problem(str(file), f"image {position}", reason))
            continue
        counts[split] += 1
        if split in parts:
            finder = finders[test if split == test else "train"]
            _add(file, position, one, finder, parts[split], problems)
    for split, captions in (("train", train), (test, tested)):
        if not any(counts[name] for name, part in parts.items() if part is captions):
            has = ", ".join(f"{name} ({count})" for name, count in counts.items()) or "none"
            other = "test" if test == "val" else "val"
            hint = f", or choose test={other!r}" if split == test and counts[other] else ""
            raise WhatwhereError(
                f"{file} has no image of the split {split!r}; of the splits {', '.join(SPLITS)} it has {has}: give "
                f"every image a filename, a split and sentences{hint}"
            )
        require_images(file, captions, finders[split])
    return make_parts(file, train, file, tested, problems)


def _inside(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob(_NAMES) if file.is_file())


def _file(path: Path) -> Path:
    """Return the one file that ``path`` means."""
    if not path.is_dir():
        return path
    files = _inside(path)
    if len(files) != 1:
        has = ", ".join(file.name for file in files) or "none"
        raise WhatwhereError(f"{path} must hold exactly one {_NAMES}, it has {has}: give the path of the file itself")
    return files[0]


def _split(one: Any) -> tuple[str, str]:
    """Return the split of an image, or "" and why it has none."""
    if not isinstance(one, Mapping):
        return "", "not a mapping, left out"
    split = one.get("split")
    if isinstance(split, str) and split in SPLITS:
        return split, ""
    if "split" not in one:
        return "", "no split, left out"
    return "", f"the split is {ascii(split)[:80]} and not train, restval, val or test, left out"


def _add(
    file: Path, position: int, one: Mapping[str, Any], finder: ImageFinder, captions: Captions, problems: list[Problem]
) -> None:
    """Add an image and its sentences to a part, or say why not."""
    name, folder = one.get("filename"), one.get("filepath") or ""
    if not isinstance(name, str) or not isinstance(folder, str):
        wrong = "no filename" if not isinstance(name, str) else f"the filepath {ascii(folder)[:80]} is no folder"
        problems.append(Problem(str(file), f"image {position}", f"{wrong}, left out"))
        return
    path = finder.find(posixpath.join(folder, name))
    if isinstance(path, str):
        problems.append(Problem(str(file), f"image {position}", path))
        return
    if path in captions:
        reason = "it is listed twice, the sentences of both are put together"
        problems.append(Problem(str(file), f"image {path.name}", reason))
    kept = captions.setdefault(path, [])
    sentences = one.get("sentences") or []
    if not isinstance(sentences, list):
        problems.append(Problem(str(file), f"image {path.name}", "its sentences are not a list, left out"))
        return
    for number, sentence in enumerate(sentences, 1):
        raw: Any = sentence.get("raw") if isinstance(sentence, Mapping) else None
        reason = "no raw text, left out" if raw is None else sentence_problem(raw)
        if reason:
            problems.append(Problem(str(file), f"image {path.name}, sentence {number}", reason))
        else:
            kept.append(raw)
