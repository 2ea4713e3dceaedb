"""What the sentences of a test set are worth: the caption scores, and on digit scenes the facts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...data.captions.dataset import Described
from ...data.captions.scenes import read_facts, right
from .scores import CaptionScores

FACTS = ("digits", "colours", "relation", "all")


class CaptionMetrics:
    """The scores of :class:`CaptionScores`, and for digit scenes the share of images on which digits, colours, the
    relation, and all of that are right: ``digits``, ``colours``, ``relation``, ``all``; ``unseen`` is ``all`` on those
    images that have a combination of colour, digit and relation that no training image has.

    Example:
        >>> metrics = CaptionMetrics()
        >>> metrics.update(["a dog runs"], [Described("a.jpg", ("a dog runs fast",))], [0])
        >>> sorted(metrics.compute())
        ['bleu1', 'bleu2', 'bleu3', 'bleu4', 'cider_d', 'rouge_l']
    """

    def __init__(self) -> None:
        self.scores = CaptionScores()
        self._facts: dict[int, dict[str, float]] = {}

    def reset(self) -> None:
        """Forget everything."""
        self.scores.reset()
        self._facts = {}

    def to(self, device: Any) -> "CaptionMetrics":
        """Return itself: sentences are kept on the CPU."""
        return self

    def update(self, captions: Sequence[str], images: Sequence[Described], numbers: Sequence[int]) -> None:
        """Add the sentences of some images, with the images' numbers in the test set."""
        self.scores.update(captions, [image.captions for image in images], [image.path for image in images], numbers)
        for caption, image, number in zip(captions, images, numbers, strict=True):
            if image.facts is not None:
                self._facts[number] = {**right(read_facts(caption), image.facts), "is_unseen": float(image.unseen)}

    def compute(self) -> dict[str, float]:
        """Return all numbers, over the images of all processes."""
        found = self.scores.compute()
        facts = list(self._gathered().values())
        if facts:
            found |= {name: sum(one[name] for one in facts) / len(facts) for name in FACTS}
            unseen = [one["all"] for one in facts if one["is_unseen"]]
            found["unseen"] = sum(unseen) / len(unseen) if unseen else float("nan")
        return found

    def write(self, folder: Path) -> None:
        """Write ``captions.json`` with every sentence and the true ones."""
        self.scores.write(folder)

    def _gathered(self) -> dict[int, dict[str, float]]:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self._facts
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, self._facts)
        return {number: one for part in parts for number, one in part.items()}
