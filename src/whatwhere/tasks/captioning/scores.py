"""The scores of captions of a whole test set: BLEU, ROUGE-L, CIDEr-D and METEOR."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ...data.captions.tokens import TOKENISER, tokenise
from ...errors import WhatwhereError
from ...files import write_text
from .measures import bleu, cider_d, rouge_l
from .meteor import find_meteor, meteor

NUMBERS = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider_d")
"""The numbers that are always computed; ``meteor`` may follow."""


class Scored(NamedTuple):
    """An image: its name, its caption, and the true captions."""

    name: str
    caption: str
    references: tuple[str, ...]


class CaptionScores:
    """Gathers captions and references image by image, and scores them as COCO's evaluation does.

    ``bleu1`` to ``bleu4`` (see :func:`bleu`), ``rouge_l`` (:func:`rouge_l`) and ``meteor`` (:func:`meteor`) are from 0
    to 1, ``cider_d`` (:func:`cider_d`) is from 0 to 10. Text is parted into
    tokens by :func:`whatwhere.data.captions.tokens.tokenise`.

    Chen et al., Microsoft COCO Captions, arXiv 1504.00325; tylin/coco-caption.

    Args:
        meteor: compute METEOR too, for which Java and the package ``pycocoevalcap`` are needed. It takes some seconds
            and up to 2 GB of memory, in each process.

    Raises:
        WhatwhereError: METEOR is asked for and something that it needs is missing.

    Example:
        >>> scores = CaptionScores()
        >>> truth = [["A dog runs in the snow.", "A brown dog runs."], ["Two cats sleep on a bed."]]
        >>> scores.update(["A dog runs in snow", "Two cats sleep on a bed!"], truth, ["a.jpg", "b.jpg"], [0, 1])
        >>> {name: round(value, 3) for name, value in scores.compute().items() if name in ("bleu4", "rouge_l")}
        {'bleu4': 0.884, 'rouge_l': 0.947}
    """

    def __init__(self, *, meteor: bool = False) -> None:
        if meteor:
            find_meteor()
        self.meteor = meteor
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._own: dict[int, Scored] = {}
        self._all: dict[int, Scored] | None = None

    def to(self, device: Any) -> "CaptionScores":
        """Return itself: text is kept on the CPU."""
        return self

    def update(
        self,
        captions: Sequence[str],
        references: Sequence[Sequence[str]],
        names: Sequence[str],
        numbers: Sequence[int],
    ) -> None:
        """Add images: all of them, or none where one is wrong. Of an image that comes several times the last counts.

        Args:
            captions: the caption of each image.
            references: the true captions of each image.
            names: the name of each image.
            numbers: the index of each image in its data set.

        Raises:
            WhatwhereError: other numbers of references, names or indices than of captions, an image without
                references, or what is not text.
        """
        sizes = {"captions": len(captions), "references": len(references), "names": len(names), "numbers": len(numbers)}
        if len(set(sizes.values())) > 1:
            raise WhatwhereError(f"lengths differ: {', '.join(f'{size} {what}' for what, size in sizes.items())}")
        added: dict[int, Scored] = {}
        for number, name, caption, truths in zip(numbers, names, captions, references, strict=True):
            if isinstance(truths, str) or not all(isinstance(text, str) for text in (caption, *truths)):
                raise WhatwhereError(f"{name}: the caption must be text, and the references a list of texts")
            if not truths:
                raise WhatwhereError(f"{name} has no references")
            added[int(number)] = Scored(str(name), caption, tuple(truths))
        self._own |= added

    def compute(self) -> dict[str, float]:
        """Return all numbers, over the images of all processes.

        Raises:
            WhatwhereError: there are no images, or METEOR fails.
        """
        images = self._gather()
        if not images:
            raise WhatwhereError("there are no captions to score: call update first")
        self._all = {number: images[number] for number in sorted(images)}
        candidates = [tokenise(one.caption) for one in self._all.values()]
        references = [[tokenise(text) for text in one.references] for one in self._all.values()]
        values = (*bleu(candidates, references), rouge_l(candidates, references), cider_d(candidates, references))
        found = dict(zip(NUMBERS, values, strict=True))
        if self.meteor:
            found["meteor"] = meteor(candidates, references)
        return found

    def captions(self) -> list[dict[str, Any]]:
        """Return number, name, caption and references of the images of the last :meth:`compute`.

        Raises:
            WhatwhereError: :meth:`compute` was not called.
        """
        if self._all is None:
            raise WhatwhereError("there are no scores yet: call compute first")
        return [{"number": number, **one._asdict()} for number, one in self._all.items()]

    def write(self, folder: Path) -> None:
        """Write ``captions.json``: the captions and references of all images, and which tokeniser parts them.

        Raises:
            WhatwhereError: :meth:`compute` was not called.
            OSError: the file cannot be written.
        """
        content = {"tokeniser": TOKENISER, "images": self.captions()}
        write_text(folder / "captions.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def _gather(self) -> dict[int, Scored]:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self._own
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, self._own)
        return {number: one for part in parts for number, one in part.items()}
