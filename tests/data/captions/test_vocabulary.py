import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatwhere.data import Vocabulary
from whatwhere.data.captions.vocabulary import END, UNKNOWN
from whatwhere.errors import WhatwhereError

WORDS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=30)


def test_the_most_frequent_words_come_first_and_equals_by_name() -> None:
    vocabulary = Vocabulary.of(["The dog, the cat.", "a Dog!", "a bird"])
    assert vocabulary.words == ("a", "dog", "the", "bird", "cat")
    assert len(vocabulary) == 7
    assert vocabulary.encode("The bird: a dog") == [4, 5, 2, 3]


@given(WORDS, st.integers(1, 4))
def test_words_of_the_least_count_are_known_and_no_others(words: list[str], least: int) -> None:
    often = {word for word in words if words.count(word) >= least}
    if not often:
        with pytest.raises(WhatwhereError, match=f"min_count={least}: no word comes so often"):
            Vocabulary.of([" ".join(words)], least)
        return
    vocabulary = Vocabulary.of([" ".join(words)], least)
    assert set(vocabulary.words) == often
    numbers = vocabulary.encode(" ".join(words))
    assert [vocabulary.word(number) for number in numbers] == [w if w in often else "<unknown>" for w in words]
    assert (UNKNOWN in numbers) == (len(often) < len(set(words)))
    assert END not in numbers


@given(WORDS)
def test_a_sentence_of_known_words_comes_back(words: list[str]) -> None:
    vocabulary = Vocabulary(tuple(dict.fromkeys(words)))
    assert vocabulary.decode([*vocabulary.encode(" ".join(words)), END, 2, END]) == " ".join(words)


def test_what_stands_for_no_word() -> None:
    vocabulary = Vocabulary(["dog"])
    assert (vocabulary.word(END), vocabulary.word(UNKNOWN), vocabulary.word(2)) == ("<end>", "<unknown>", "dog")
    assert vocabulary.decode([UNKNOWN, 2]) == "<unknown> dog"
    assert vocabulary.decode([]) == vocabulary.decode([END, 2]) == ""
    assert vocabulary.encode("") == vocabulary.encode(" ? ... ,") == []


def test_words_that_are_no_vocabulary() -> None:
    for words, message in (([], "needs at least one word"), (["a", "dog", "a"], "'a' comes twice")):
        with pytest.raises(WhatwhereError, match=message):
            Vocabulary(words)


def test_sentences_that_give_no_vocabulary() -> None:
    with pytest.raises(WhatwhereError, match=r"min_count=0: must be at least 1"):
        Vocabulary.of(["a dog"], 0)
    with pytest.raises(WhatwhereError, match=r"min_count=3: .* the most frequent comes 2 times: take a smaller"):
        Vocabulary.of(["a dog and a cat"], 3)
    with pytest.raises(WhatwhereError, match=r"the most frequent comes 0 times"):
        Vocabulary.of([])
