"""Digit scenes with sentences: two digits, their colours, and how one lies to the other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import WhatwhereError
from ..config import DataConfig, scene_config
from ..drawing import COLOURS
from ..scenes import SceneConfig, Scenes, open_scenes
from ..sentences import NUMERALS
from .config import CaptionDataConfig

SCENES = SceneConfig(size=56, train=8000, test=1500, digits=(2, 2), clutter=(0, 0), scale=(0.32, 0.42), contrast=0.3)
"""The digit scenes of captioning. With little contrast asked for, all colours are about equally frequent; small digits
have room above each other."""
SHARE = 0.1
"""Share of the combinations of colour, digit and relation that only the test scenes have."""
CLEAR = 1.4
"""How many times farther apart in one direction than in the other two digits must be, so that a relation is clear."""
DRAWN = 2.0
"""How many scenes are drawn for each that is kept: some have a combination that is left out, or no clear relation."""

OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
RELATIONS = tuple(OPPOSITE)

Digit = tuple[str, str]  # colour and numeral


@dataclass(frozen=True)
class Facts:
    """What a sentence about a scene says: the first digit lies ``relation`` the second one. None: it does not say.

    Example:
        >>> Facts(("red", "seven"), "left", ("blue", "one")).turned()
        Facts(first=('blue', 'one'), relation='right', second=('red', 'seven'))
    """

    first: tuple[str | None, str | None]
    relation: str | None
    second: tuple[str | None, str | None]

    def turned(self) -> "Facts":
        """Return the same, told from the other digit."""
        return Facts(self.second, OPPOSITE[self.relation] if self.relation else None, self.first)


def wordings(facts: Facts) -> tuple[str, ...]:
    """Return all sentences that say the same.

    Example:
        >>> wordings(Facts(("red", "seven"), "left", ("orange", "one")))[:2]
        ('a red seven left of an orange one', 'a red seven to the left of an orange one')
    """
    (a, b), relation = (_phrase(facts.first), _phrase(facts.second)), facts.relation
    if relation in ("left", "right"):
        other = OPPOSITE[relation]
        return (
            f"{a} {relation} of {b}",
            f"{a} to the {relation} of {b}",
            f"{b} with {a} on its {relation}",
            f"on the {relation} {a} and on the {other} {b}",
        )
    places = ("top", "bottom") if relation == "above" else ("bottom", "top")
    word = "over" if relation == "above" else "under"
    return (
        f"{a} {relation} {b}",
        f"{a} {word} {b}",
        f"{b} with {a} {relation} it",
        f"at the {places[0]} {a} and at the {places[1]} {b}",
    )


def _phrase(digit: tuple[str | None, str | None]) -> str:
    colour, numeral = digit
    return f"{'an' if str(colour)[0] in 'aeiou' else 'a'} {colour} {numeral}"


_RELATION_OF = {
    "left": "left", "right": "right", "above": "above", "over": "above", "below": "below", "under": "below",
    "top": "above", "bottom": "below",
}  # fmt: skip


def read_facts(sentence: str) -> Facts:
    """Return what a sentence says, as far as it can be understood; no relation where it says several that do not agree.

    Example:
        >>> read_facts("a blue one with a red seven on its left").turned()
        Facts(first=('red', 'seven'), relation='left', second=('blue', 'one'))
        >>> read_facts("a red red")
        Facts(first=('red', None), relation=None, second=(None, None))
    """
    digits: list[list[str | None]] = [[None, None], [None, None]]
    count, turned = 0, False
    relations: list[str] = []
    for word in sentence.split():
        if word in COLOURS and count < 2 and digits[count][0] is None:
            digits[count][0] = word
        elif word in NUMERALS and count < 2:
            digits[count][1] = word
            count += 1
        elif word == "with":
            turned = True
        elif word in _RELATION_OF:
            relations.append(_RELATION_OF[word])
    relation = relations[0] if relations and all(one == OPPOSITE[relations[0]] for one in relations[1:]) else None
    if turned and relation:
        relation = OPPOSITE[relation]
    return Facts((digits[0][0], digits[0][1]), relation, (digits[1][0], digits[1][1]))


def facts_of(scenes: Scenes, index: int) -> Facts | None:
    """Return the facts of a scene of two digits, told from the larger one; None where the relation is not clear."""
    assert scenes.boxes is not None
    boxes = scenes.boxes[index].tolist()
    dx, dy = (boxes[0][i] + boxes[0][i + 2] - boxes[1][i] - boxes[1][i + 2] for i in (0, 1))
    if max(abs(dx), abs(dy)) < CLEAR * min(abs(dx), abs(dy)):
        return None
    if abs(dx) > abs(dy):
        relation = "left" if dx < 0 else "right"
    else:
        relation = "above" if dy < 0 else "below"
    colours = scenes.colours[index]
    one, two = ((colours[i], NUMERALS[int(scenes.objects[index][i])]) for i in (0, 1))
    return Facts(one, relation, two)


Combination = tuple[str, str, str]


def combinations(facts: Facts) -> set[Combination]:
    """Return the combinations of colour, digit and relation in a scene, one for each digit."""
    return {(str(f.first[0]), str(f.first[1]), str(f.relation)) for f in (facts, facts.turned())}


def held_out(seed: int) -> set[Combination]:
    """Return the combinations that only the test scenes have.

    Example:
        >>> len(held_out(0)), len(held_out(0) & held_out(1)) < 20
        (40, True)
    """
    every = [(colour, digit, relation) for colour in COLOURS for digit in NUMERALS for relation in RELATIONS]
    chosen = np.random.default_rng((seed, 2)).permutation(len(every))[: round(SHARE * len(every))]
    return {every[i] for i in chosen.tolist()}


@dataclass(frozen=True)
class CaptionScene:
    """A scene with its facts: its index among the scenes, and whether it has a combination that training has not."""

    index: int
    facts: Facts
    unseen: bool


def caption_scenes(
    config: CaptionDataConfig, *, progress: bool = True
) -> tuple[tuple[Scenes, list[CaptionScene]], tuple[Scenes, list[CaptionScene]]]:
    """Return the training scenes and the test scenes, each with those of them that are used.

    Raises:
        WhatwhereError: an option of the scenes that is out of range, or another number of digits than two.
    """
    plain = DataConfig(config.data, config.size, config.train_limit, config.test_limit, config.data_seed)
    asked = scene_config(plain, SCENES)
    if asked.digits != (2, 2):
        raise WhatwhereError(
            f"the sentences of the scenes tell how two digits lie to each other: digits must be 2, not {asked.digits}"
        )
    more = replace(asked, train=round(DRAWN * asked.train) + 20, test=round(DRAWN * asked.test) + 20)
    left_out = held_out(config.data_seed)
    found = []
    for scenes, count, is_test in zip(
        open_scenes(more, progress=progress), (asked.train, asked.test), (False, True), strict=True
    ):
        assert isinstance(scenes, Scenes)
        found.append((scenes, _usable(scenes, count, left_out, is_test)))
    return found[0], found[1]


def _usable(scenes: Scenes, count: int, left_out: set[Combination], is_test: bool) -> list[CaptionScene]:
    used: list[CaptionScene] = []
    for index in range(len(scenes)):
        facts = facts_of(scenes, index)
        if facts is None:
            continue
        unseen = bool(combinations(facts) & left_out)
        if unseen and not is_test:
            continue
        used.append(CaptionScene(index, facts, unseen))
        if len(used) == count:
            return used
    raise WhatwhereError(
        f"only {len(used)} of {len(scenes)} {'test' if is_test else 'training'} scenes can be used, as the others have "
        f"no clear relation, or a combination that only test scenes have; {count} were asked for: ask for fewer, or "
        "take another data_seed"
    )


def right(said: Facts, true: Facts) -> dict[str, float]:
    """Return what of a sentence is right, told from whichever digit fits better: ``digits`` and ``colours`` (shares of
    the two), ``relation`` and ``all`` (0 or 1).

    Example:
        >>> true = Facts(("red", "seven"), "left", ("blue", "one"))
        >>> right(read_facts("a blue two right of a red seven"), true)
        {'digits': 0.5, 'colours': 1.0, 'relation': 1.0, 'all': 0.0}
    """
    return max((_compare(one, true) for one in (said, said.turned())), key=lambda found: sum(found.values()))


def _compare(said: Facts, true: Facts) -> dict[str, float]:
    pairs: Sequence[tuple[tuple[str | None, str | None], tuple[str | None, str | None]]] = (
        (said.first, true.first),
        (said.second, true.second),
    )
    found = {
        "digits": sum(a[1] == b[1] for a, b in pairs) / 2,
        "colours": sum(a[0] == b[0] for a, b in pairs) / 2,
        "relation": float(said.relation == true.relation),
    }
    return {**found, "all": float(min(found.values()) == 1)}
