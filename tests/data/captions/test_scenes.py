import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatwhere.data import CaptionDataConfig
from whatwhere.data.captions import scenes as module
from whatwhere.data.captions.scenes import (
    OPPOSITE,
    RELATIONS,
    Facts,
    caption_scenes,
    combinations,
    held_out,
    read_facts,
    right,
    wordings,
)
from whatwhere.data.captions.tokens import tokenise
from whatwhere.data.drawing import COLOURS
from whatwhere.data.sentences import NUMERALS
from whatwhere.errors import WhatwhereError

DIGITS = list(itertools.product(COLOURS, NUMERALS))
FACTS = st.builds(Facts, st.sampled_from(DIGITS), st.sampled_from(RELATIONS), st.sampled_from(DIGITS))
RED, BLUE = ("red", "seven"), ("blue", "one")
LEFT = Facts(RED, "left", BLUE)


def made(seed: int = 0, train: int = 200, test: int = 60) -> Any:
    data = f"scenes:train={train}:test={test}:size=48:scale=0.3-0.42:contrast=0.2"
    return caption_scenes(CaptionDataConfig(data, data_seed=seed), progress=False)


def test_all_sentences_of_all_facts_say_them() -> None:
    for first, second in zip(DIGITS, DIGITS[37:] + DIGITS[:37], strict=True):
        for relation in RELATIONS:
            facts = Facts(first, relation, second)
            for telling in (facts, facts.turned()):
                sentences = wordings(telling)
                assert len(set(sentences)) == 4
                for sentence in sentences:
                    assert read_facts(sentence) in (facts, facts.turned()), sentence
                    assert " ".join(tokenise(sentence)) == sentence
                    assert " an " not in f" {sentence}".replace(" an orange", "")
                    assert " a orange" not in sentence


@given(FACTS)
def test_told_from_the_other_digit_and_back(facts: Facts) -> None:
    assert facts.turned().turned() == facts
    assert facts.turned().relation == OPPOSITE[facts.relation or ""]
    assert combinations(facts) == combinations(facts.turned())
    assert Facts(RED, None, BLUE).turned() == Facts(BLUE, None, RED)


@given(FACTS, FACTS)
def test_different_facts_have_different_sentences(one: Facts, other: Facts) -> None:
    said = [set(wordings(facts)) | set(wordings(facts.turned())) for facts in (one, other)]
    assert len(said[0]) == 8
    assert bool(said[0] & said[1]) == (other in (one, one.turned()))


SAID = {
    "": Facts((None, None), None, (None, None)),
    "a dog on a bed": Facts((None, None), None, (None, None)),
    "a red seven": Facts(RED, None, (None, None)),
    "seven red left": Facts((None, "seven"), "left", ("red", None)),
    "a red seven left of a": Facts(RED, "left", (None, None)),
    "a red seven and a blue one": Facts(RED, None, BLUE),
    "a red green seven left of a blue one": LEFT,
    "a red seven left of a blue one and a green two": LEFT,
    "on the left a red seven and on the right a blue one": LEFT,
    "on the left a red seven and on the left a blue one": Facts(RED, None, BLUE),
    "at the top a red seven and on the right a blue one": Facts(RED, None, BLUE),
    "a blue one with a red seven": Facts(BLUE, None, RED),
    "a blue one with a red seven on its left": LEFT.turned(),
}


@pytest.mark.parametrize("sentence", SAID)
def test_sentences_that_are_not_as_taught(sentence: str) -> None:
    assert read_facts(sentence) == SAID[sentence]


@given(st.lists(st.sampled_from([*COLOURS, *NUMERALS, *RELATIONS, "with", "top", "under", "dog"]), max_size=9))
def test_every_sentence_can_be_read(words: list[str]) -> None:
    found = right(read_facts(" ".join(words)), LEFT)
    assert list(found) == ["digits", "colours", "relation", "all"]
    assert found["all"] == float(found["digits"] == found["colours"] == found["relation"] == 1)


RIGHT = {
    "a red seven left of a blue one": (1, 1, 1, 1),
    "a blue one right of a red seven": (1, 1, 1, 1),
    "a red seven right of a blue one": (1, 1, 0, 0),
    "a blue one left of a red seven": (1, 1, 0, 0),
    "a blue seven left of a red one": (1, 0, 1, 0),
    "a red one left of a blue seven": (0, 1, 1, 0),
    "a red seven above a blue one": (1, 1, 0, 0),
    "a red seven": (0.5, 0.5, 0, 0),
    "a green one left of a red seven": (1, 0.5, 0, 0),  # the better telling: from the other digit
    "a green two right of a red three": (0, 0.5, 1, 0),
    "a dog": (0, 0, 0, 0),
}


@pytest.mark.parametrize("sentence", RIGHT)
def test_the_better_telling_counts(sentence: str) -> None:
    said = read_facts(sentence)
    assert tuple(right(said, LEFT).values()) == RIGHT[sentence]
    assert right(said.turned(), LEFT) == right(said, LEFT.turned()) == right(said, LEFT)


@given(FACTS, FACTS)
def test_all_is_right_for_the_same_facts_only(said: Facts, true: Facts) -> None:
    assert right(true.turned(), true)["all"] == 1
    assert right(said, true)["all"] == float(said in (true, true.turned()))


def test_two_equal_digits() -> None:
    same = Facts(RED, "left", RED)
    assert combinations(same) == {("red", "seven", "left"), ("red", "seven", "right")}
    assert right(read_facts("a red seven right of a red seven"), same)["all"] == 1
    assert right(read_facts("a red seven above a red seven"), same)["all"] == 0


def test_a_tenth_of_the_combinations_is_held_out() -> None:
    every = {(*digit, relation) for digit in DIGITS for relation in RELATIONS}
    assert len(every) == 400
    for seed in range(3):
        assert held_out(seed) == held_out(seed)
        assert len(held_out(seed)) == 40
        assert held_out(seed) < every
    assert held_out(0) != held_out(1)


@pytest.mark.parametrize("seed", [0, 1])
def test_held_out_combinations_are_in_test_scenes_only(seed: int) -> None:
    counts = (40, 60) if seed else (200, 60)
    (_, train), (_, test) = made(seed, *counts)
    assert (len(train), len(test)) == counts
    assert not any(combinations(one.facts) & held_out(seed) or one.unseen for one in train)
    assert [one.unseen for one in test] == [bool(combinations(one.facts) & held_out(seed)) for one in test]
    assert 3 < sum(one.unseen for one in test) < 25


def test_facts_are_those_of_the_scenes() -> None:
    for scenes, used in made():
        assert [one.index for one in used] == sorted({one.index for one in used})
        for one in used:
            assert len(scenes.objects[one.index]) == 2
            for digit, label, colour in zip(
                (one.facts.first, one.facts.second), scenes.objects[one.index], scenes.colours[one.index], strict=True
            ):
                assert digit == (colour, NUMERALS[int(label)])


def test_relations_agree_with_the_boxes_and_are_clear() -> None:
    seen = set()
    for scenes, used in made():
        for one in used:
            (x, y), (other_x, other_y) = ((box[:2] + box[2:]).tolist() for box in scenes.boxes[one.index])
            right, down = x - other_x, y - other_y
            far = {"left": -right, "right": right, "above": -down, "below": down}[one.facts.relation]
            across = down if one.facts.relation in ("left", "right") else right
            assert far >= module.CLEAR * abs(across)
            assert far > 0
            seen.add(one.facts.relation)
        unused = set(range(used[-1].index)) - {one.index for one in used}
        left_out = [facts for i in unused if (facts := module.facts_of(scenes, i)) is not None]
        assert all(combinations(facts) & held_out(0) for facts in left_out)
    assert seen == set(RELATIONS)


def test_the_same_scenes_for_a_seed_and_fewer_are_the_first_of_them() -> None:
    limited = CaptionDataConfig(
        "scenes:train=200:test=60:size=48:scale=0.3-0.42:contrast=0.2", train_limit=20, test_limit=10
    )
    for (scenes, used), (again, same), (_, fewer), (_, others), count in zip(
        made(), made(), caption_scenes(limited, progress=False), made(1, 40, 60), (20, 10), strict=True
    ):
        assert used == same
        assert scenes.images.equal(again.images)
        assert used[:count] == fewer
        assert others[:count] != fewer


@pytest.mark.parametrize("digits", ["1", "1-2", "3"])
def test_other_numbers_of_digits_are_refused(digits: str) -> None:
    with pytest.raises(WhatwhereError, match=rf"digits must be 2, not \({digits[0]}, {digits[-1]}\)"):
        caption_scenes(CaptionDataConfig(f"scenes:digits={digits}"), progress=False)


def test_other_options_are_those_of_scenes() -> None:
    with pytest.raises(WhatwhereError, match="digit"):
        caption_scenes(CaptionDataConfig("scenes:digit=2"), progress=False)
    with pytest.raises(WhatwhereError, match="size=32 is given too"):
        caption_scenes(CaptionDataConfig("scenes:size=48", size=32), progress=False)


def test_too_few_scenes_that_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "facts_of", lambda scenes, index: LEFT if index < 3 else None)
    monkeypatch.setattr(module, "held_out", lambda seed: set())
    with pytest.raises(WhatwhereError, match=r"only 3 of 60 training scenes can be used, .*20 were asked for: ask for"):
        made(0, 20, 10)
