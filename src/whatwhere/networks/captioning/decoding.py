"""How a captioner's sentence is found: the likeliest word each time, beam search, or words drawn at random."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import WhatwhereError
from .captioner import Captioner

END = 0
"""The number of the word that ends a sentence."""


@dataclass(frozen=True)
class Written:
    """A sentence that was written.

    Attributes:
        words: their numbers, without the end.
        log_probability: of the whole sentence, the sum over its words and its end.
        ended: whether it came to its end within the longest length.
    """

    words: tuple[int, ...]
    log_probability: float
    ended: bool


@torch.no_grad()
def write(
    model: Captioner,
    inputs: Tensor | Mapping[str, Tensor],
    *,
    beam: int = 3,
    longest: int = 50,
    length_power: float = 0.0,
    never: Sequence[int] = (),
) -> list[list[Written]]:
    """Return the best sentences for each image by beam search, the best first; ``beam=1`` takes the likeliest word each
    time.

    The search keeps, for each image, the ``beam`` likeliest beginnings. One that ends leaves the search and keeps its
    place among the ``beam``, so that fewer go on. A search stops when no beginning can become better than the best
    ended sentence, or at the longest length, where the beginnings count as sentences too. All images are searched at
    once, and what the encoder made of them is not copied for each beginning.

    Args:
        model: in evaluation mode.
        inputs: images, or what :meth:`Captioner.frozen_values` gave for them.
        beam: how many beginnings are kept.
        longest: the most words of a sentence.
        length_power: sentences are compared by their log-probability over (words + end) to this power: 0, as in the
            paper, prefers short ones, 1 compares the mean of a word.
        never: numbers of words that are not written; the probabilities of the others stay as they are.

    Raises:
        WhatwhereError: a beam or a length below 1, or a power below 0.
    """
    for name, value in (("beam", beam), ("longest", longest)):
        if value < 1:
            raise WhatwhereError(f"{name}={value}: must be at least 1")
    if length_power < 0:
        raise WhatwhereError(f"length_power={length_power}: must be at least 0")
    encoded, state = model.encode(inputs)
    count, device = len(state.h), state.h.device
    scores = torch.zeros(count, 1, device=device)  # of the beginnings; -inf where a place is taken by an ended sentence
    chosen: Tensor | None = None  # the last word of each beginning
    sentences = torch.zeros(count, 1, 0, dtype=torch.int64, device=device)
    ended: list[list[Written]] = [[] for _ in range(count)]
    for length in range(1, longest + 1):
        logits, state = model.step(encoded, state, chosen)
        likely = logits.float().log_softmax(-1)
        for word in never:
            likely[..., word] = -torch.inf
        totals = scores[..., None] + likely
        size = totals.shape[-1]
        scores, flat = totals.flatten(1).topk(min(beam, totals.shape[1] * size), 1)
        parent, chosen = flat // size, flat % size
        room = torch.tensor([beam - len(one) for one in ended], device=device)
        scores = scores.masked_fill(torch.arange(scores.shape[1], device=device) >= room[:, None], -torch.inf)
        history = sentences.gather(1, parent[..., None].expand(-1, -1, length - 1))
        ends = (chosen == END) & scores.isfinite()
        for image, place in ends.nonzero().tolist():
            words = tuple(history[image, place].tolist())
            ended[image].append(Written(words, scores[image, place].item(), True))
        scores = scores.masked_fill(ends, -torch.inf)
        sentences = torch.cat((history, chosen[..., None]), 2)
        state = state.select(parent)
        best = scores.max(1).values.tolist()
        decided = [_is_decided(*one, length_power, beam, longest) for one in zip(ended, best, strict=True)]
        scores[torch.tensor(decided, device=device)] = -torch.inf
        if all(decided):
            break
    for image, place in scores.isfinite().nonzero().tolist():
        if len(ended[image]) < beam:
            words = tuple(sentences[image, place].tolist())
            ended[image].append(Written(words, scores[image, place].item(), False))
    return [sorted(found, key=lambda one: -_rank(one, length_power)) for found in ended]


def _rank(one: Written, power: float) -> float:
    """Return what sentences are compared by."""
    return one.log_probability / float((len(one.words) + one.ended) ** power)


def _is_decided(done: list[Written], best: float, power: float, beam: int, longest: int) -> bool:
    """Whether no beginning, the likeliest of which has the log-probability ``best``, can become the best sentence."""
    if len(done) >= beam or best == -torch.inf:
        return True
    # a beginning only becomes less likely; at best it is spread over the longest sentence
    return bool(done) and max(_rank(one, power) for one in done) >= best / float((longest + 1) ** power)


@torch.no_grad()
def draw_words(
    model: Captioner,
    inputs: Tensor | Mapping[str, Tensor],
    *,
    sentences: int = 1,
    temperature: float = 1.0,
    longest: int = 50,
    generator: torch.Generator | None = None,
) -> list[list[Written]]:
    """Return sentences whose words are drawn at random, each with its probability to the power 1 / temperature.

    Args:
        model: in evaluation mode.
        inputs: images, or what :meth:`Captioner.frozen_values` gave for them.
        sentences: how many for each image.
        temperature: below 1 prefers likely words.
        longest: the most words of a sentence.
        generator: where the random numbers come from, on the device of the model.

    Raises:
        WhatwhereError: a number below 1, or a temperature that is not above 0.
    """
    for name, value in (("sentences", sentences), ("longest", longest)):
        if value < 1:
            raise WhatwhereError(f"{name}={value}: must be at least 1")
    if not temperature > 0:
        raise WhatwhereError(f"temperature={temperature}: must be above 0")
    encoded, state = model.encode(inputs)
    state = state.select(torch.zeros(len(state.h), sentences, dtype=torch.int64, device=state.h.device))
    chosen: Tensor | None = None
    totals = state.h.new_zeros(state.h.shape[:2])
    going = torch.ones_like(totals, dtype=torch.bool)
    columns: list[Tensor] = []
    for _ in range(longest):
        logits, state = model.step(encoded, state, chosen)
        likely = logits.float().log_softmax(-1)
        shares = (likely / temperature).softmax(-1).flatten(0, 1)
        chosen = torch.multinomial(shares, 1, generator=generator).view(totals.shape)
        chosen = chosen.masked_fill(~going, END)
        totals = totals + likely.gather(2, chosen[..., None])[..., 0] * going
        columns.append(chosen)
        going = going & (chosen != END)
        if not going.any():
            break
    words = torch.stack(columns, 2).tolist()
    found = []
    for image, (rows, open_rows) in enumerate(zip(words, going.tolist(), strict=True)):
        found.append(
            [
                Written(tuple(row[: row.index(END)] if END in row else row), totals[image, place].item(), not is_open)
                for place, (row, is_open) in enumerate(zip(rows, open_rows, strict=True))
            ]
        )
    return found
