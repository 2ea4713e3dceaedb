import pytest

from whatwhere.data.sentences import describe, position_word, size_word


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (5, 5, "at the top left"),
        (24, 5, "at the top"),
        (43, 5, "at the top right"),
        (5, 24, "on the left"),
        (24, 24, "in the middle"),
        (43, 24, "on the right"),
        (5, 43, "at the bottom left"),
        (24, 43, "at the bottom"),
        (43, 43, "at the bottom right"),
    ],
)
def test_nine_places(x: int, y: int, words: str) -> None:
    assert position_word((x - 2, y - 4, x + 2, y + 4), 48) == words


def test_three_sizes_by_the_longest_side() -> None:
    boxes = [(0, 0, 17, 5), (0, 0, 5, 20), (0, 0, 30, 5)]
    assert [size_word(box, 48) for box in boxes] == ["small", "", "large"]


def test_many_digits_are_joined() -> None:
    boxes = [(2, 2, 20, 28), (20, 20, 28, 40), (40, 20, 46, 32)]
    sentence = describe([7, 8, 1], ["red", "orange", "blue"], boxes, 48)
    assert sentence == (
        "a large red seven at the top left, an orange eight in the middle and a small blue one on the right"
    )
