"""Datasets of the Hugging Face library ``datasets``: one of the hub, a local folder of it, or a saved one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import WhatwhereError, closest, need
from ..options import read_spec
from .dataset import Splits
from .image import Unreadable
from .limits import check_limits, check_positive, evenly
from .on_demand import OnDemandDataset, hold_or_check, shared_side, spread
from .preprocessing import SIZE

OPTIONS = ("config", "revision", "image", "label", "train", "test")
_TRAIN = ("train", "training")
_HELD_OUT = ("validation", "valid", "val", "dev", "test")
_IMAGES = ("image", "img", "images", "jpg", "png", "picture")
_LABELS = ("label", "labels", "fine_label", "class", "cls", "target")


class HuggingFaceDataset(OnDemandDataset):
    """Rows of a map-style dataset, each with an image and a label, decoded when they are asked for.

    Args:
        rows: the split; its images come as they are stored, not decoded.
        column: the column of the images.
        numbers: which rows, in order.
        place: where they are, for messages.
        classes: see :class:`ImageDataset`.
        labels: see :class:`ImageDataset`.
        size: see :class:`ImageDataset`.
        flip: see :class:`ImageDataset`.
    """

    def __init__(
        self,
        rows: Any,
        column: str,
        numbers: NDArray[np.int64],
        place: str,
        classes: tuple[str, ...],
        labels: Tensor,
        size: int,
        *,
        flip: bool,
    ) -> None:
        super().__init__(place, classes, labels, size, flip=flip)
        self.rows = rows
        self.column = column
        self.numbers = numbers

    def source(self, index: int) -> Any:
        """Return the image of a row as it is stored."""
        return stored_image(self.rows, self.column, int(self.numbers[index]))

    def name(self, index: int) -> str:
        """Return the dataset, the split and the row of an image."""
        return f"{self.place}, row {int(self.numbers[index])}"


def open_hugging_face(
    text: str,
    *,
    size: int | None = None,
    default_size: int | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    seed: int = 0,
    flip: bool = True,
    memory_gb: float = 4.0,
    progress: bool = True,
) -> Splits:
    """Open a dataset of the library ``datasets`` as a training and a test dataset.

    Rows keep their order, so that runs pair and resume as with a folder. Images are decoded by :func:`read_image`,
    whatever the column holds: images of ``datasets``, bytes, paths, or arrays. A row whose image cannot be read is
    reported with its number, left out, and listed in ``.broken``.

    Args:
        text: ``hf:NAME_OR_DIR[:OPTION=VALUE]…``: the name of a dataset on the hub, a folder for ``load_dataset``, or
            one that ``save_to_disk`` wrote. Options: ``config`` and ``revision`` of ``load_dataset``; ``image`` and
            ``label``, the names of the columns; ``train`` and ``test``, the names of the splits. By default the column
            of images and that of class labels where there is one of each, or columns of usual names; the splits
            ``train``, and ``validation`` or else ``test``.
        size: see :func:`open_folder`.
        default_size: see :func:`open_folder`.
        train_limit: see :func:`open_folder`.
        test_limit: see :func:`open_folder`.
        seed: see :func:`open_folder`.
        flip: see :func:`open_folder`.
        memory_gb: see :func:`open_folder`.
        progress: show progress bars.

    Returns:
        ``Splits(train, test)``. The classes are the names of a ``ClassLabel``, otherwise the values of the training
        labels, sorted.

    Raises:
        MissingExtra: ``datasets`` is not installed.
        WhatwhereError: it cannot be loaded; a split or a column is missing; a label is missing, or in no training
            image; there is one class; or a class has no image that can be read.

    Example:
        >>> import tempfile
        >>> from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
        >>> from PIL import Image as Pil
        >>> features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
        >>> rows = {"image": [Pil.new("RGB", (40, 32))] * 4, "label": [0, 1, 1, 0]}
        >>> split = Dataset.from_dict(rows, features)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     DatasetDict(train=split, validation=split).save_to_disk(folder)
        ...     train, test = open_hugging_face(f"hf:{folder}", progress=False)
        >>> train.classes, train.size, test.labels.tolist()
        (('cat', 'dog'), 32, [0, 1, 1, 0])
    """
    check_positive(size=size, default_size=default_size, train_limit=train_limit, test_limit=test_limit)
    name, options = read_name(text)
    with _bars(progress):
        splits = _load(name, options)
    train_name = _pick("split", "train", options, list(splits), _TRAIN, name)
    test_name = _pick("split", "test", options, list(splits), _HELD_OUT, name)
    train, test = splits[train_name], splits[test_name]
    image, label = (_column(train, kind, options, name) for kind in ("image", "label"))
    if missing := {image, label} - set(test.column_names):
        raise WhatwhereError(f"the split {test_name!r} of {name} has no column {', '.join(sorted(missing))}")
    places = [f"{name}, {split}" for split in (train_name, test_name)]
    classes, *labels = _labels([train, test], label, places)
    check_limits(len(classes), name, train_limit=train_limit, test_limit=test_limit)
    kept = [evenly(labels[0], train_limit, seed), evenly(labels[1], test_limit, seed)]
    rows = [_undecoded(split, image) for split in (train, test)]
    some = (_or_none(rows[0], image, int(kept[0][i])) for i in spread(len(kept[0])))
    side = size or default_size or shared_side(one for one in some if one is not None) or SIZE
    first, second = (
        HuggingFaceDataset(part, image, keep, place, classes, torch.from_numpy(numbers[keep]), side, flip=flip)
        for part, keep, place, numbers in zip(rows, kept, places, labels, strict=True)
    )
    return hold_or_check(first, second, memory_gb, progress=progress)


def read_name(text: str) -> tuple[str, dict[str, str]]:
    """Take ``hf:NAME:OPTION=VALUE`` apart.

    Raises:
        WhatwhereError: there is no name, or an option that is not known.

    Example:
        >>> read_name("hf:cifar10:image=img")
        ('cifar10', {'image': 'img'})
    """
    spec = read_spec(text.partition(":")[2])
    if not spec.name:
        raise WhatwhereError(f"{text!r} names no dataset: give hf:NAME or hf:FOLDER")
    for key in spec.options:
        if key not in OPTIONS:
            raise WhatwhereError(f"hf has no option {key!r}: it takes {', '.join(OPTIONS)}{closest(key, OPTIONS)}")
    return os.path.expanduser(spec.name), spec.options


def _load(name: str, options: dict[str, str]) -> Any:
    """Return the splits of a dataset, by name."""
    datasets = need("datasets", extra="hf")
    folder = Path(name)
    if name.startswith((".", "/", "~")) and not folder.is_dir():
        raise WhatwhereError(f"there is no folder {name}")
    saved = any((folder / file).exists() for file in ("dataset_dict.json", "state.json"))
    if saved and (given := [key for key in ("config", "revision") if key in options]):
        raise WhatwhereError(f"{name} was written by save_to_disk, which knows no {' and no '.join(given)}")
    try:
        if saved:
            found = datasets.load_from_disk(name)
        else:
            found = datasets.load_dataset(name, options.get("config"), revision=options.get("revision"))
    except Exception as error:  # the hub, the network, the builder and Arrow raise nearly anything
        raise WhatwhereError(f"the dataset {name} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(found, dict):
        raise WhatwhereError(
            f"{name} holds one split alone: save a DatasetDict with 'train' and 'validation' or 'test'"
        )
    return found


def _pick(what: str, option: str, options: dict[str, str], there: list[str], usual: tuple[str, ...], name: str) -> str:
    """Return the name that an option gives, or else the first usual one that is there."""
    if given := options.get(option):
        if given not in there:
            raise WhatwhereError(f"{name} has no {what} {given!r}: it has {', '.join(there)}{closest(given, there)}")
        return given
    for one in usual:
        if one in there:
            return one
    raise WhatwhereError(f"{name} has no {what} {' or '.join(usual)}: it has {', '.join(there)}; say {option}=NAME")


def _column(split: Any, kind: str, options: dict[str, str], name: str) -> str:
    """Return the column of the images or of the labels."""
    wanted = {"image": "Image", "label": "ClassLabel"}[kind]
    typed = [column for column, feature in split.features.items() if type(feature).__name__ == wanted]
    usual = tuple(typed) if len(typed) == 1 else _IMAGES if kind == "image" else _LABELS
    return _pick("column", kind, options, list(split.column_names), usual, name)


def _labels(
    splits: list[Any], column: str, places: list[str]
) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64]]:
    """Return the names of the classes, and the labels of all training and of all test rows."""
    feature = splits[0].features[column]
    values = []
    for split, place in zip(splits, places, strict=True):
        table = split.select_columns([column]).with_format("arrow")[:]
        if table[column].null_count:
            raise WhatwhereError(f"{place}: {table[column].null_count} rows have no {column}")
        values.append(np.array(table[column].to_pylist()))
        if not len(values[-1]):
            raise WhatwhereError(f"{place} has no rows")
        if values[-1].ndim != 1 or values[-1].dtype.kind not in "iubU":
            raise WhatwhereError(f"{place}: the column {column} holds no class labels, whole numbers or words")
    names = getattr(feature, "names", None)
    known = np.arange(len(names)) if names else np.unique(values[0])
    for split_values, place in zip(values, places, strict=True):
        strange = ~np.isin(split_values, known)
        if strange.any():
            row = int(strange.argmax())
            raise WhatwhereError(
                f"{place}: row {row} has the label {split_values[row]}, which is none of the {len(known)} classes; "
                "-1 mostly means that labels are kept secret: name another split, test=NAME"
            )
    if len(known) < 2:
        raise WhatwhereError(f"{places[0]} has only one class: there is nothing to tell apart")
    classes = tuple(names) if names else tuple(str(value) for value in known)
    train, test = (np.searchsorted(known, one).astype(np.int64) for one in values)
    return classes, train, test


def _undecoded(split: Any, column: str) -> Any:
    """Return a split with nothing but its images, as they are stored."""
    datasets = need("datasets", extra="hf")
    alone = split.select_columns([column]).with_format(None)
    if isinstance(split.features[column], datasets.Image):
        alone = alone.cast_column(column, datasets.Image(decode=False))
    return alone


def stored_image(rows: Any, column: str, number: int) -> Any:
    """Return the image of a row in a form that :func:`read_image` takes.

    Raises:
        Unreadable: there is none, or none of a form that can be read.
    """
    value = rows[number][column]
    if isinstance(value, dict) and "bytes" in value:
        if value["bytes"] is None and "://" in (value["path"] or ""):
            return _fetched(value)
        value = value["bytes"] if value["bytes"] is not None else value["path"]
    if isinstance(value, list):
        value = np.asarray(value)
        if value.dtype.kind not in "iu" or value.min(initial=0) < 0 or value.max(initial=0) > 255:
            raise Unreadable(f"row {number}", "an array of whole numbers from 0 to 255 is needed")
        value = value.astype(np.uint8)
    if value is None:
        raise Unreadable(f"row {number}", "there is no image")
    return value


def _fetched(value: dict[str, Any]) -> Any:
    """Return an image inside an archive or on another machine, which ``datasets`` knows how to open."""
    datasets = need("datasets", extra="hf")
    try:
        return datasets.Image().decode_example(value)
    except Exception as error:  # file systems and decoders raise nearly anything
        raise Unreadable(value["path"], str(error) or type(error).__name__) from error


def _or_none(rows: Any, column: str, number: int) -> Any:
    try:
        return stored_image(rows, column, number)
    except Unreadable:
        return None


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """Keep the progress bars of ``datasets`` off."""
    datasets = need("datasets", extra="hf")
    were_on = not datasets.utils.are_progress_bars_disabled()
    if not shown:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not shown and were_on:
            datasets.enable_progress_bars()
