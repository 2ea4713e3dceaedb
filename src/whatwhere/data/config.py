"""Which images to use: a small config, and the function that opens what it names."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WhatwhereError, closest
from ..options import read_options, read_spec
from .dataset import Splits
from .folders import open_folder
from .hugging_face import open_hugging_face
from .scenes import SceneConfig, open_scenes
from .shards import open_shards


@dataclass(frozen=True)
class DataConfig:
    """Which images to use, and how many.

    Attributes:
        data: "scenes" (the built-in digit scenes; with options as in "scenes:train=4000:clutter=2-5:digits=1-4"); a
            folder with train/ and val/ or test/, and in each a folder per class; "hf:NAME_OR_DIR", a dataset of Hugging
            Face's library, with options as in "hf:cifar100:image=img:label=fine_label"; or "wds:DIR", tar files in
            WebDataset's layout, with stream=false to read them in an exact order.
        size: side of the images in pixels; None leaves it to the data and the network.
        train_limit: use at most this many training images, spread evenly over the classes.
        test_limit: use at most this many test images, spread evenly over the classes.
        data_seed: seed of the scenes, and of the images that the limits draw.
        flip: whether a mirrored image keeps its label; None means no for scenes, and yes for everything else.
        memory_gb: decode while training if the decoded images take more memory than this, in GB. Tar files are always
            decoded while training, and scenes never.

    Example:
        >>> DataConfig("scenes:digits=1-4", train_limit=1000).train_limit
        1000
    """

    data: str = "scenes"
    size: int | None = None
    train_limit: int | None = None
    test_limit: int | None = None
    data_seed: int = 0
    flip: bool | None = None
    memory_gb: float = 4.0


def scene_config(config: DataConfig, default: SceneConfig | None = None) -> SceneConfig:
    """Return the :class:`SceneConfig` of the options after "scenes:" and the other fields of ``config``; what neither
    says is as in ``default``.

    Options are ``name=value``, ranges ``name=least-most`` (or one value for both). ``size`` and ``seed`` may be given
    either way.

    Raises:
        WhatwhereError: an unknown option, a value out of range, or two sizes that differ.

    Example:
        >>> scene_config(DataConfig("scenes:digits=1-4:size=64", train_limit=1000)).digits
        (1, 4)
    """
    default = default or SceneConfig()
    defaults = {field.name: getattr(default, field.name) for field in dataclasses.fields(SceneConfig)}
    options: dict[str, Any] = {"seed": config.data_seed, **read_options(read_spec(config.data), defaults)}
    if config.size is not None and options.setdefault("size", config.size) != config.size:
        raise WhatwhereError(f"{config.data!r} asks for size {options['size']}, but size={config.size} is given too")
    scenes = dataclasses.replace(default, **options)
    limits = {"train": config.train_limit, "test": config.test_limit}
    for name, limit in limits.items():
        if limit is not None and limit < 1:
            raise WhatwhereError(f"{name}_limit must be at least 1, or None, got {limit}")
    fewer = {name: min(getattr(scenes, name), limit) for name, limit in limits.items() if limit is not None}
    return dataclasses.replace(scenes, **fewer)


def open_data(config: DataConfig, *, default_size: int | None = None, progress: bool = True) -> Splits:
    """Open the images that ``config`` names.

    Args:
        config: which images. A limit on scenes means that no more are made.
        default_size: the side that the network prefers, for folders where ``config.size`` is None. Scenes have a side
            of their own, 48.
        progress: show progress bars.

    Returns:
        ``Splits(train, test)``.

    Raises:
        WhatwhereError: there is no such data, or it cannot be trained on, see :func:`open_folder`,
            :func:`open_hugging_face` and :func:`open_shards`.

    Example:
        >>> train, test = open_data(DataConfig("scenes", train_limit=100, test_limit=50), progress=False)
        >>> len(train), train.size, train.classes[:3]
        (100, 32, ('zero', 'one', 'two'))
    """
    if config.data == "scenes" or config.data.startswith("scenes:"):
        splits = open_scenes(scene_config(config), progress=progress)
        if config.flip is not None:
            splits.train.flip = splits.test.flip = config.flip
        return splits
    kind = config.data.partition(":")[0]
    opened = _OPENED[kind] if kind in _OPENED and ":" in config.data else open_folder
    if opened is open_folder and not (config.data.strip() and Path(config.data).expanduser().is_dir()):
        known = "" if any(mark in config.data for mark in "/\\") else closest(kind, ["scenes", *_OPENED])
        raise WhatwhereError(
            f"data is {config.data!r}, which is no folder here; give 'scenes' (built in), a folder with train/ and "
            f"val/ or test/, and in each a folder per class, hf:NAME_OR_DIR, or wds:DIR{known}"
        )
    return opened(
        config.data,
        size=config.size,
        default_size=default_size,
        train_limit=config.train_limit,
        test_limit=config.test_limit,
        seed=config.data_seed,
        flip=config.flip is not False,
        memory_gb=config.memory_gb,
        progress=progress,
    )


_OPENED: dict[str, Callable[..., Splits]] = {"hf": open_hugging_face, "wds": open_shards}


def absolute(data: str) -> str:
    """Return a config's ``data`` with a folder written in full, so that it means the same from everywhere.

    Example:
        >>> absolute("scenes:train=100"), absolute("hf:cifar10:image=img")
        ('scenes:train=100', 'hf:cifar10:image=img')
    """
    kind, colon, rest = data.partition(":")
    if kind == "scenes":
        return data
    start = f"{kind}:" if colon and kind in _OPENED else ""
    folder, colon, options = rest.partition(":") if start else (data, "", "")
    path = os.path.abspath(os.path.expanduser(folder))
    return f"{start}{path}{colon}{options}" if folder and os.path.isdir(path) else data
