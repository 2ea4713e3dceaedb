"""Pascal VOC folders: an XML file an image."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ...errors import WhatwhereError
from ..image import SUFFIXES
from .objects import Part, Problem, RawImage, RawObject
from .splitting import split_evenly

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def is_voc(folder: Path) -> bool:
    """Whether a folder is one of VOC's, or holds such folders (``VOC2007``, ``VOC2012``)."""
    return bool(_folders(folder))


class _NoEntities(ElementTree.TreeBuilder):
    """Refuses document types, and with them entities that expand without end, in whatever encoding."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type, which no annotation needs")


def read_voc(given: Sequence[Path], seed: int) -> tuple[Part, Part]:
    """Return the training and the test part of VOC folders, or folders of such, together.

    ``Annotations/*.xml``, ``JPEGImages/`` and ``ImageSets/Main/*.txt``. Where ``test.txt`` names images with
    annotations, they are the test part, and ``trainval.txt`` (or ``train.txt`` and ``val.txt``) the training part;
    else ``train.txt`` and ``val.txt`` are the two parts. Where one of several folders has such a test part, all of the
    others, whose tests are not public, is for training. Without lists a fifth of the images, drawn by ``seed``, is the
    test part. An image in both lists is only tested on.

    VOC counts pixels from 1 and includes the last: ``xmin`` and ``ymin`` are made smaller by 1.

    Raises:
        WhatwhereError: a folder without annotations, or lists that make no test part.
    """
    folders = [one for folder in given for one in _folders(folder)]
    lists = {one: _lists(one) for one in folders}
    tested = [one for one in folders if any(_annotation(one, name).exists() for name in lists[one].get("test", ()))]
    train, test = Part([], []), Part([], [])
    for one in folders:
        named = lists[one]
        learned = named.get("trainval") or [*named.get("train", ()), *named.get("val", ())]
        if not named:
            first, second = split_evenly(sorted(path.stem for path in (one / "Annotations").glob("*.xml")), seed)
        elif one in tested:
            first, second = learned, named["test"]
        elif tested:
            first, second = learned, []
        else:
            first, second = named.get("train", []), named.get("val", [])
        both = set(first) & set(second)
        train.problems.extend(
            Problem(str(_annotation(one, name)), "", "it is in the test part too, the image is left out of training")
            for name in first
            if name in both
        )
        first = [name for name in first if name not in both]
        for part, names in ((train, first), (test, second)):
            for name in dict.fromkeys(names):
                _read(one, name, part)
    if not test.images or not train.images:
        raise WhatwhereError(
            f"{' '.join(map(str, given))}: ImageSets/Main must name images for training and for tests: "
            "train.txt and val.txt, or trainval.txt and test.txt; without these lists a fifth of the images is the "
            "test part"
        )
    return train, test


def _folders(folder: Path) -> list[Path]:
    found = [folder] if (folder / "Annotations").is_dir() else []
    return found or sorted(path.parent for path in folder.glob("*/Annotations") if path.is_dir())


def _lists(folder: Path) -> dict[str, list[str]]:
    """Return the names of the images in each list; names may have spaces."""
    found = {}
    for part in ("train", "val", "trainval", "test"):
        file = folder / "ImageSets" / "Main" / f"{part}.txt"
        if file.is_file():
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            found[part] = [line.strip() for line in lines if line.strip()]
    return found


def _annotation(folder: Path, name: str) -> Path:
    return folder / "Annotations" / f"{name}.xml"


def _read(folder: Path, name: str, part: Part) -> None:
    """Add one image to a part, or say why not."""
    file = _annotation(folder, name)
    try:
        root = ElementTree.fromstring(file.read_bytes(), ElementTree.XMLParser(target=_NoEntities()))
        if root.tag != "annotation":
            raise ValueError(f"it holds <{root.tag}> and not <annotation>")
    except FileNotFoundError:
        part.problems.append(Problem(str(file), "", "there is no such annotation file, the image is left out"))
        return
    except (OSError, ValueError, LookupError, ElementTree.ParseError) as error:
        part.problems.append(Problem(str(file), "", f"the file is broken ({error}), the image is left out"))
        return
    objects = [_object(number, node) for number, node in enumerate(root.iter("object"), 1)]
    part.images.append(RawImage(_image(folder, name, root), file, objects, _size(root)))


def _image(folder: Path, name: str, root: ElementTree.Element) -> Path:
    """Return the image of an annotation: one of its own name, or else the file that it names (which tools leave as it
    was where files are renamed).
    """
    images = folder / "JPEGImages"
    named = (root.findtext("filename") or "").strip().replace("\\", "/").rsplit("/", 1)[-1]
    guesses = [images / named] if Path(named).stem == name else []
    guesses += [images / f"{name}{suffix}" for suffix in sorted(SUFFIXES, key=lambda suffix: suffix != ".jpg")]
    guesses += [images / f"{name}{suffix.upper()}" for suffix in sorted(SUFFIXES)]
    guesses += [images / named] if named else []
    return next((path for path in guesses if path.is_file()), guesses[0])


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        width, height = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _object(number: int, node: ElementTree.Element) -> RawObject:
    label = (node.findtext("name") or "").strip() or None
    difficult = (node.findtext("difficult") or "0").strip() == "1"
    corners = {name: node.findtext(f"bndbox/{name}") for name in CORNERS}
    missing = [name for name, text in corners.items() if text is None or not text.strip()]
    if missing:
        return RawObject(number, label, None, problem=f"the box has no {', '.join(missing)}, left out")
    try:
        x1, y1, x2, y2 = (float(corners[name] or "") for name in CORNERS)
    except ValueError:
        words = ", ".join(f"{name} {text!r}" for name, text in corners.items())
        return RawObject(number, label, None, problem=f"the box is not made of numbers ({words}), left out")
    if x1 == x2 or y1 == y2:  # one pixel wide, as VOC counts: nobody draws that on purpose
        return RawObject(number, label, None, problem=f"the box {x1:g}, {y1:g}, {x2:g}, {y2:g} is empty, left out")
    if x2 < x1 or y2 < y1:
        words = f"the box {x1:g}, {y1:g}, {x2:g}, {y2:g}"
        return RawObject(number, label, None, problem=f"{words} is inverted (xmax < xmin or ymax < ymin), left out")
    return RawObject(number, label, (x1 - 1, y1 - 1, x2, y2), difficult=difficult)
