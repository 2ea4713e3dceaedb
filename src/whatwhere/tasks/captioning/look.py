"""What a captioner attends to at each word of a sentence."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...data import Vocabulary
from ...data.captions.vocabulary import END
from ...networks.captioning.captioner import Captioner
from ...views import WordGates


def look_at_words(model: Captioner, images: Tensor, words: Sequence[int], vocabulary: Vocabulary) -> list[WordGates]:
    """Follow a sentence and its end through a captioner, and return the gates for each word.

    Args:
        model: in evaluation mode.
        images: one normalised image ``(1, 3, S, S)``.
        words: numbers of the words, without the end.
        vocabulary: the words.
    """
    encoded, state = model.encode(images)
    found: list[WordGates] = []
    before: Tensor | None = None
    for number in [*words, END]:
        _, gates = model.attend(encoded, state.h)
        logits, state = model.step(encoded, state, before)
        likely = logits.float().log_softmax(-1)[0, 0, number].item()
        found.append(
            WordGates(
                vocabulary.word(number),
                likely,
                tuple(None if spatial is None else spatial[0, 0].float().cpu() for _, spatial in gates),
                tuple(None if channel is None else channel[0, 0].float().cpu() for channel, _ in gates),
            )
        )
        before = torch.tensor([[number]], device=images.device)
    return found
