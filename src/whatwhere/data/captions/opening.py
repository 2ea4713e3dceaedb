"""Opening images with sentences, from digit scenes or folders."""

import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ...errors import WhatwhereError, closest
from ..dataset import Broken
from ..detection.objects import Problem
from ..detection.splitting import at_most
from ..preprocessing import SIZE
from .coco import is_coco_captions, read_coco_captions
from .config import CaptionDataConfig
from .dataset import CaptionDataset, CaptionSplits, Described, read_described
from .karpathy import is_karpathy, read_karpathy
from .records import CaptionParts, ImageCaptions
from .scenes import caption_scenes, wordings
from .table import is_caption_table, read_caption_table
from .tokens import tokenise
from .vocabulary import Vocabulary

MIN_COUNT = 5
"""How often a word of a folder must come to belong to the vocabulary, where it is not said."""
LAYOUTS = (
    "expected COCO captions (annotations/captions_train*.json and captions_val*.json), Karpathy's split "
    "(dataset_*.json), or captions.csv (image, caption) with train.txt and val.txt, dev.txt or test.txt"
)


def open_captions(
    config: CaptionDataConfig,
    *,
    default_size: int = SIZE,
    vocabulary: Vocabulary | None = None,
    in_memory: bool = True,
    progress: bool = True,
) -> CaptionSplits:
    """Open the images with sentences that ``config`` names.

    What is not in order is left out, never raised: each is in ``problems`` of its part with file and image (what is
    wrong in the files themselves in those of the training part), and a warning says how many there are. Empty
    sentences, those that are longer than ``config.most_words``, and images without any sentence are left out.

    Args:
        config: which images.
        default_size: the side that the network expects, for folders where ``config.size`` is None.
        vocabulary: that of an earlier run; by default the words of the training sentences.
        in_memory: whether the images of a folder are decoded at once, if they fit.
        progress: show progress bars.

    Raises:
        WhatwhereError: there is no such data, or nothing in it to learn from.

    Example:
        >>> train, test = open_captions(CaptionDataConfig("scenes:train=20:test=10"), progress=False)
        >>> len(train.images), len(train), len(test), len(test.images[0].captions)
        (20, 20, 10, 8)
    """
    if config.scenes:
        return _scenes(config, vocabulary, progress)
    return _folder(config, default_size, vocabulary, in_memory, progress)


def _scenes(config: CaptionDataConfig, vocabulary: Vocabulary | None, progress: bool) -> CaptionSplits:
    made = []
    for (scenes, used), is_test in zip(caption_scenes(config, progress=progress), (False, True), strict=True):
        images = []
        for one in used:
            sentences = (*wordings(one.facts), *wordings(one.facts.turned()))
            if not is_test:
                rng = np.random.default_rng((config.data_seed, 3, one.index))
                sentences = (sentences[int(rng.integers(len(sentences)))],)
            images.append(Described(scenes.name(one.index), sentences, one.facts, one.unseen))
        made.append((images, scenes.images[[one.index for one in used]]))
    vocabulary = vocabulary or Vocabulary.of(_sentences(made[0][0]), config.min_count or 1)
    train, test = (
        CaptionDataset(
            images, vocabulary, int(pixels.shape[-1]), sentences=not is_test, flip=bool(config.flip), pixels=pixels
        )
        for (images, pixels), is_test in zip(made, (False, True), strict=True)
    )
    return CaptionSplits(train, test)


def _folder(
    config: CaptionDataConfig, default_size: int, vocabulary: Vocabulary | None, in_memory: bool, progress: bool
) -> CaptionSplits:
    parts = _read(config)
    size = config.size or default_size
    images, problems = [], []
    limits = (config.train_limit, config.test_limit)
    for part, limit, name in zip(parts[:2], limits, ("learn from", "measure on"), strict=True):
        found, left_out = _clean(at_most(part, limit, config.data_seed), config.most_words)
        if not found:
            raise WhatwhereError(
                f"{config.data} has no image with a sentence to {name}: {_first(left_out or parts.problems)}"
            )
        images.append(found)
        problems.append(left_out)
    problems[0] = [*parts.problems, *problems[0]]
    vocabulary = vocabulary or Vocabulary.of(_sentences(images[0]), config.min_count or MIN_COUNT)
    fits = in_memory and sum(len(part) for part in images) * 3 * size * size <= config.memory_gb * 1e9
    made = []
    for found, left_out, name in zip(images, problems, ("training", "test"), strict=True):
        pixels: Tensor | None = None
        broken: list[Broken] = []
        if fits:
            found, pixels, broken = _decode(found, size, progress, f"reading the {name} images")
        if not found:
            first = f"{broken[0].path}: {broken[0].reason}"
            raise WhatwhereError(
                f"none of the {len(broken)} {name} images of {config.data} can be read, such as {first}"
            )
        made.append(
            CaptionDataset(
                found,
                vocabulary,
                size,
                sentences=name == "training",
                flip=config.flip is not False,
                pixels=pixels,
                problems=left_out,
                broken=broken,
            )
        )
    _warn(made)
    return CaptionSplits(*made)


def _read(config: CaptionDataConfig) -> CaptionParts:
    path = Path(config.data).expanduser()
    if not path.exists():
        raise WhatwhereError(f"there is no {config.data}{closest(config.data, ['scenes'])}; {LAYOUTS}")
    if path.is_dir() and is_caption_table(path):
        return read_caption_table(path, config.test_part)
    if path.is_dir() and is_coco_captions(path):
        return read_coco_captions(path)
    if is_karpathy(path):
        return read_karpathy(path, test=config.test_part)
    if path.is_file():
        raise WhatwhereError(f"{path} is no JSON file; {LAYOUTS}, and for the last the folder")
    names = sorted(one.name for one in path.iterdir())
    inside = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise WhatwhereError(f"{path} has no sentences that are known here, it has {inside or 'nothing'}; {LAYOUTS}")


def _clean(images: Sequence[ImageCaptions], longest: int) -> tuple[list[Described], list[Problem]]:
    """Return the images with those of their sentences that are in order, and what is left out."""
    kept, problems = [], []
    for image in images:
        sentences = []
        for number, caption in enumerate(image.captions, 1):
            count = len(tokenise(caption))
            if 0 < count <= longest:
                sentences.append(caption)
                continue
            what = f"it has {count} words, at most {longest} are learned from" if count else "it has no words"
            problems.append(Problem(str(image.source), f"{image.path.name}, sentence {number}", f"{what}, left out"))
        if sentences:
            kept.append(Described(str(image.path), tuple(sentences)))
        else:
            problems.append(Problem(str(image.source), image.path.name, "it has no sentence, left out"))
    return kept, problems


def _decode(
    images: list[Described], size: int, progress: bool, title: str
) -> tuple[list[Described], Tensor, list[Broken]]:
    """Return the images that can be read, their pixels, and those that cannot be read."""
    kept, broken = list[Described](), list[Broken]()
    pixels = torch.empty(len(images), 3, size, size, dtype=torch.uint8)
    console = Console(stderr=True)
    with ThreadPoolExecutor() as pool:
        results = track(
            pool.map(lambda image: read_described(image, size), images),
            title,
            total=len(images),
            console=console,
            transient=True,
            disable=not (progress and console.is_terminal),
        )
        for image, result in zip(images, results, strict=True):
            if isinstance(result, str):
                broken.append(Broken(image.path, result))
            else:
                pixels[len(kept)] = result
                kept.append(image)
    return kept, pixels[: len(kept)], broken


def _sentences(images: Sequence[Described]) -> list[str]:
    return [caption for image in images for caption in image.captions]


def _first(problems: Sequence[Problem]) -> str:
    return f"{problems[0]}" if problems else "the files name none"


def _warn(parts: Sequence[CaptionDataset]) -> None:
    lines = [str(one) for part in parts for one in part.problems]
    lines += [f"{one.path}: {one.reason}" for part in parts for one in part.broken]
    if lines:
        reasons = Counter(one.reason for part in parts for one in part.problems)
        reasons.update(one.reason for part in parts for one in part.broken)
        counts = "".join(f"\n  {count}: {reason}" for reason, count in reasons.most_common(10))
        more = f"\n  and {len(lines) - 10} more" if len(lines) > 10 else ""
        warnings.warn(
            f"{len(lines)} problems in images and sentences:{counts}\nthe first:\n  " + "\n  ".join(lines[:10]) + more,
            RuntimeWarning,
            stacklevel=4,
        )
