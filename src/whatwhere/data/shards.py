"""Tar files in WebDataset's layout: streamed to learn from, and read by the place of each image to test on."""

import re
from pathlib import Path

import torch

from ..errors import WhatwhereError, need
from ..options import read_options, read_spec
from .dataset import Splits
from .image import Unreadable
from .limits import check_limits, check_positive, evenly
from .on_demand import OnDemandDataset, check_readable, shared_side, spread
from .preprocessing import SIZE
from .stream import ShardStream
from .tar_index import TarIndex, index_shards

OPTIONS = {"stream": True, "shuffle": 1000}
_HELD_OUT = ("val", "validation", "valid", "test")
_CLASS_FILES = ("classes.txt", "classnames.txt")
_LAYOUT = (
    "expected DIR/*train*.tar and DIR/*val*.tar (or *validation*, *test*), or folders train/ and val/ of tar files"
)


class ShardDataset(OnDemandDataset):
    """The images of tar files, each read by its place in a file when it is asked for.

    Args:
        index: where they are.
        place: where the files are, for messages.
        classes: see :class:`ImageDataset`.
        size: see :class:`ImageDataset`.
        flip: see :class:`ImageDataset`.
    """

    def __init__(self, index: TarIndex, place: Path, classes: tuple[str, ...], size: int, *, flip: bool) -> None:
        super().__init__(place, classes, torch.from_numpy(index.labels), size, flip=flip)
        self.index = index

    def source(self, index: int) -> bytes:
        """Return the bytes of an image."""
        file = self.index.shards[int(self.index.shard[index])]
        try:
            with file.open("rb") as stream:
                stream.seek(int(self.index.offset[index]))
                return stream.read(int(self.index.size[index]))
        except OSError as error:
            raise Unreadable(self.name(index), str(error)) from error

    def name(self, index: int) -> str:
        """Return the tar file of an image and its name in there."""
        return f"{self.index.shards[int(self.index.shard[index])]}/{self.index.keys[index].decode(errors='replace')}"


class StreamedShards(ShardDataset):
    """The same to learn from: an epoch reads whole tar files from the start to the end, see :meth:`stream`.

    Args:
        index: where the images are.
        place: where the files are, for messages.
        classes: see :class:`ImageDataset`.
        size: see :class:`ImageDataset`.
        flip: see :class:`ImageDataset`.
        shuffle: how many images each reader holds to draw from.
    """

    def __init__(
        self, index: TarIndex, place: Path, classes: tuple[str, ...], size: int, *, flip: bool, shuffle: int
    ) -> None:
        super().__init__(index, place, classes, size, flip=flip)
        self.shuffle = shuffle

    def stream(self, seed: int, *, batch_size: int, batches: int, rank: int = 0, processes: int = 1) -> ShardStream:
        """Return one process's batches of an epoch, see :class:`ShardStream`.

        Args:
            seed: of this epoch, the same in all processes.
            batch_size: images a batch of this process.
            batches: how many batches.
            rank: of this process.
            processes: how many processes share the files.

        Raises:
            WhatwhereError: there are fewer tar files than processes.
        """
        return ShardStream(
            self,
            self.index.shards,
            self.index.contents(),
            seed=seed,
            batch_size=batch_size,
            batches=batches,
            rank=rank,
            processes=processes,
            shuffle=self.shuffle,
        )


def open_shards(
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
    """Open a folder of tar files in WebDataset's layout as a training and a test dataset.

    A sample is what follows each other in a tar file with the same name up to its first dot: an image (``.jpg``,
    ``.png``, …) and its class as a number from 0 in a ``.cls`` file. ``classes.txt`` or ``classnames.txt`` in the
    folder may give the names of the classes, one a line. The headers of all files are read once, and where each image
    lies is kept in the cache.

    Test images are read by their place in a file: each exactly once, in order, however many processes share them.
    Training reads whole files in a shuffled order, through timm's reader, see :class:`ShardStream`.

    Args:
        text: ``wds:DIR[:OPTION=VALUE]…``. The tar files whose path in ``DIR`` contains the word train, and val,
            validation, valid or test; both as in ``imagenet-train-0000.tar`` and in ``train/0000.tar``. Options:
            ``shuffle``, the images in the buffer of each reader, by default 1000; ``stream=false`` reads training
            images by their place too, in an exact order, for tar files on a fast local disk.
        size: see :func:`open_folder`.
        default_size: see :func:`open_folder`.
        train_limit: see :func:`open_folder`; needs ``stream=false``.
        test_limit: see :func:`open_folder`.
        seed: see :func:`open_folder`.
        flip: see :func:`open_folder`.
        memory_gb: is not used: tar files are decoded while training.
        progress: show progress bars.

    Returns:
        ``Splits(train, test)``.

    Raises:
        MissingExtra: ``webdataset`` is not installed, and the files are to be streamed.
        WhatwhereError: a split or a class is missing, or a tar file cannot be read, is cut off, or has a sample without
            an image or a class.

    Example:
        >>> import io, tarfile, tempfile
        >>> from PIL import Image
        >>> def add(tar, name, data):
        ...     member = tarfile.TarInfo(name)
        ...     member.size = len(data)
        ...     tar.addfile(member, io.BytesIO(data))
        >>> Image.new("RGB", (40, 32)).save(picture := io.BytesIO(), "PNG")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for split in ("train", "val"):
        ...         with tarfile.open(f"{folder}/{split}-0.tar", "w") as tar:
        ...             for label in (0, 1):
        ...                 add(tar, f"{label}.png", picture.getvalue())
        ...                 add(tar, f"{label}.cls", str(label).encode())
        ...     train, test = open_shards(f"wds:{folder}:stream=false", progress=False)
        ...     train.__getitems__([1])["labels"], test.size
        (tensor([1]), 32)
    """
    check_positive(size=size, default_size=default_size, train_limit=train_limit, test_limit=test_limit)
    root, stream, shuffle = _read_name(text)
    if stream and train_limit is not None:
        raise WhatwhereError(f"train_limit needs images that are read by index: give {text}:stream=false")
    splits = _find(root)
    train, test = (index_shards(shards, progress=progress) for shards in splits)
    classes = _classes(root, train, test)
    check_limits(len(classes), root, train_limit=train_limit, test_limit=test_limit)
    train, test = train.only(evenly(train.labels, train_limit, seed)), test.only(evenly(test.labels, test_limit, seed))
    trial = ShardDataset(train, root, classes, 1, flip=flip)
    side = size or default_size or shared_side(trial.source(i) for i in spread(len(trial))) or SIZE
    learned: ShardDataset
    if stream:
        need("webdataset", extra="wds")
        learned = StreamedShards(train, root, classes, side, flip=flip, shuffle=shuffle)
    else:
        learned = ShardDataset(train, root, classes, side, flip=flip)
    tested = ShardDataset(test, root, classes, side, flip=flip)
    return Splits(check_readable(learned), check_readable(tested))


def _read_name(text: str) -> tuple[Path, bool, int]:
    """Take ``wds:DIR:OPTION=VALUE`` apart: the folder, whether to stream, and the images in a buffer."""
    spec = read_spec(text.partition(":")[2])
    options = {**OPTIONS, **read_options(spec, OPTIONS)}
    root = Path(spec.name).expanduser()
    if not spec.name or not root.is_dir():
        raise WhatwhereError(f"there is no folder {spec.name!r}; give wds:DIR, {_LAYOUT}")
    if not isinstance(options["stream"], bool):
        raise WhatwhereError(f"{text!r}: stream is true or false")
    if options["shuffle"] is None or options["shuffle"] < 1:
        raise WhatwhereError(f"{text!r}: shuffle is at least 1 image")
    return root.absolute(), options["stream"], options["shuffle"]


def _find(root: Path) -> list[list[Path]]:
    """Return the tar files to learn from, and those to test on."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.tar")):
        words = set(re.split(r"[^a-z]+", path.relative_to(root).as_posix().lower()))
        split = next((name for name in ("train", *_HELD_OUT) if name in words), "")
        found.setdefault(split, []).append(path)
    held_out = next((found[name] for name in _HELD_OUT if name in found), None)
    if "train" not in found or held_out is None:
        missing = "to learn from (train)" if "train" not in found else f"to test on ({', '.join(_HELD_OUT)})"
        raise WhatwhereError(f"{root} has no tar files {missing}; {_LAYOUT}")
    return [found["train"], held_out]


def _classes(root: Path, train: TarIndex, test: TarIndex) -> tuple[str, ...]:
    """Return the names of the classes: those of a file, or else numbers."""
    file = next((root / name for name in _CLASS_FILES if (root / name).is_file()), None)
    lines = file.read_text(encoding="utf-8").splitlines() if file is not None else []
    names = [line.strip() for line in lines if line.strip()]
    for part, what in ((train, "to learn from"), (test, "to test on")):
        if not len(part.labels):
            raise WhatwhereError(f"the tar files {what} in {root} hold no image")
    count = len(names) or int(train.labels.max()) + 1
    most = max(int(train.labels.max()), int(test.labels.max()))
    if most >= count:
        there = f"{file} names {count}" if file is not None else f"the training images have classes up to {count - 1}"
        raise WhatwhereError(f"{root} has an image of class {most}, but {there}")
    if count < 2:
        raise WhatwhereError(f"{root} has only one class: there is nothing to tell apart")
    return tuple(names) if names else tuple(str(number) for number in range(count))
