"""Sentences that describe digit scenes."""

from collections.abc import Sequence

NUMERALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SMALL, LARGE = 0.36, 0.5  # longest side of a digit's box, as a share of the scene's side


def size_word(box: Sequence[float], side: int) -> str:
    """Return "small", "large", or "" for a box that is neither.

    Example:
        >>> size_word((0, 0, 10, 40), 48)
        'large'
    """
    share = max(box[2] - box[0], box[3] - box[1]) / side
    return "small" if share < SMALL else "large" if share > LARGE else ""


def position_word(box: Sequence[float], side: int) -> str:
    """Return in which of nine fields of a scene the centre of a box is.

    Example:
        >>> position_word((0, 0, 10, 10), 48)
        'at the top left'
    """
    across = min(2, int((box[0] + box[2]) / 2 / side * 3))
    down = min(2, int((box[1] + box[3]) / 2 / side * 3))
    words = [("top", "", "bottom")[down], ("left", "", "right")[across]]
    if not any(words):
        return "in the middle"
    return ("at the " if down != 1 else "on the ") + " ".join(word for word in words if word)


def describe(labels: Sequence[int], colours: Sequence[str], boxes: Sequence[Sequence[float]], side: int) -> str:
    """Describe the digits of a scene in the order given.

    Args:
        labels: from 0 to 9.
        colours: their names.
        boxes: x1, y1, x2, y2 in pixels.
        side: of the scene, in pixels.

    Example:
        >>> describe([7, 1], ["red", "blue"], [(2, 2, 20, 28), (40, 20, 46, 32)], 48)
        'a large red seven at the top left and a small blue one on the right'
    """
    phrases = []
    for label, colour, box in zip(labels, colours, boxes, strict=True):
        words = [word for word in (size_word(box, side), colour, NUMERALS[label], position_word(box, side)) if word]
        article = "an" if words[0][0] in "aeiou" else "a"
        phrases.append(" ".join([article, *words]))
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
