"""The words that a captioner knows, by number."""

from collections import Counter
from collections.abc import Iterable, Sequence

from ...errors import WhatwhereError
from .tokens import tokenise

END, UNKNOWN = 0, 1
"""The numbers of the end of a sentence, and of every word that is not in the vocabulary."""


class Vocabulary:
    """Words and their numbers. 0 is the end of a sentence, 1 stands for every unknown word, the others follow.

    Args:
        words: from number 2 on, all different.

    Raises:
        WhatwhereError: no word, or one that comes twice.

    Example:
        >>> vocabulary = Vocabulary.of(["A dog runs.", "A dog sleeps."], least=2)
        >>> vocabulary.words, vocabulary.encode("a dog barks")
        (('a', 'dog'), [2, 3, 1])
        >>> vocabulary.decode([2, 3, 0])
        'a dog'
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._numbers = {word: number for number, word in enumerate(self.words, 2)}
        if not self.words:
            raise WhatwhereError("a vocabulary needs at least one word, it has none")
        if len(self._numbers) < len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise WhatwhereError(f"a vocabulary has each word only once, {twice!r} comes twice")

    @classmethod
    def of(cls, captions: Iterable[str], least: int = 1) -> "Vocabulary":
        """Return the words that come at least ``least`` times in sentences, the most frequent first.

        Raises:
            WhatwhereError: ``least`` is below 1, or no word comes so often.
        """
        if least < 1:
            raise WhatwhereError(f"min_count={least}: must be at least 1")
        counts = Counter(word for caption in captions for word in tokenise(caption))
        words = sorted((word for word, count in counts.items() if count >= least), key=lambda one: (-counts[one], one))
        if not words:
            most = max(counts.values(), default=0)
            raise WhatwhereError(
                f"min_count={least}: no word comes so often in the sentences, the most frequent comes {most} times: "
                "take a smaller min_count or more sentences"
            )
        return cls(words)

    def __len__(self) -> int:
        return len(self.words) + 2

    def encode(self, caption: str) -> list[int]:
        """Return the numbers of a sentence's words, without the end."""
        return [self._numbers.get(word, UNKNOWN) for word in tokenise(caption)]

    def word(self, number: int) -> str:
        """Return one word; ``<end>`` and ``<unknown>`` for 0 and 1."""
        return ("<end>", "<unknown>")[number] if number < 2 else self.words[number - 2]

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the sentence of some numbers, up to its end."""
        found = []
        for number in numbers:
            if number == END:
                break
            found.append(self.word(number))
        return " ".join(found)
