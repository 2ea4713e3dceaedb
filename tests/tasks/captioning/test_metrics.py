import json
import math
from pathlib import Path

import pytest
import torch

from whatwhere.data.captions.dataset import Described
from whatwhere.data.captions.scenes import Facts, wordings
from whatwhere.errors import WhatwhereError
from whatwhere.tasks.captioning.metrics import CaptionMetrics
from whatwhere.tasks.captioning.scores import NUMBERS, CaptionScores

LEFT = Facts(("red", "seven"), "left", ("blue", "one"))
ABOVE = Facts(("green", "two"), "above", ("white", "zero"))


def scene(name: str, facts: Facts, unseen: bool = False) -> Described:
    return Described(name, (*wordings(facts), *wordings(facts.turned())), facts, unseen)


SCENES = [scene("0", LEFT), scene("1", ABOVE, unseen=True), scene("2", LEFT, unseen=True), scene("3", ABOVE)]
SAID = [
    "a blue one right of a red seven",
    "a green two above a white zero",
    "a red one above a blue seven",
    "a green two above a black four",
]


def test_photographs_have_the_scores_of_captions_and_no_facts() -> None:
    images = [Described("a.jpg", ("A dog runs.", "A brown dog.")), Described("b.jpg", ("Two cats sleep.",))]
    metrics, scores = CaptionMetrics(), CaptionScores()
    said = ["a dog sleeps", "two cats"]
    metrics.update(said, images, [0, 1])
    scores.update(said, [image.captions for image in images], ["a.jpg", "b.jpg"], [0, 1])
    assert metrics.compute() == scores.compute()
    assert set(metrics.compute()) == set(NUMBERS)


def test_scenes_have_facts_too() -> None:
    metrics = CaptionMetrics()
    metrics.update(SAID[:1], SCENES[:1], [0])
    metrics.update(SAID[1:], SCENES[1:], [1, 2, 3])
    found = metrics.compute()
    assert list(found) == [*NUMBERS, "digits", "colours", "relation", "all", "unseen"]
    # the third: both colours right and no digit, from the other digit too; the fourth: one digit, one colour
    assert [found[key] for key in ("digits", "colours", "relation", "all", "unseen")] == [
        (1 + 1 + 0 + 0.5) / 4,
        (1 + 1 + 1 + 0.5) / 4,
        3 / 4,
        2 / 4,
        1 / 2,
    ]


@pytest.mark.parametrize("said", wordings(LEFT) + wordings(LEFT.turned()))
def test_every_telling_is_right(said: str) -> None:
    metrics = CaptionMetrics()
    metrics.update([said], SCENES[:1], [0])
    found = metrics.compute()
    assert [found[key] for key in ("digits", "colours", "relation", "all")] == [1, 1, 1, 1]
    assert math.isnan(found["unseen"])  # no image has an unseen combination
    assert found["bleu4"] == pytest.approx(1)


def test_an_image_that_comes_twice_counts_once_and_the_last_counts() -> None:
    metrics = CaptionMetrics()
    metrics.update(["a dog", SAID[1]], SCENES[:2], [0, 1])
    metrics.update(SAID[:1], SCENES[:1], [0])
    assert metrics.compute()["all"] == 1


def test_forgetting(tmp_path: Path) -> None:
    metrics = CaptionMetrics()
    assert metrics.to(torch.device("cpu")) is metrics
    metrics.update(SAID, SCENES, range(4))
    metrics.reset()
    with pytest.raises(WhatwhereError, match="no captions to score"):
        metrics.compute()
    metrics.update(["a dog"], [Described("a.jpg", ("A dog.",))], [0])
    assert set(metrics.compute()) == set(NUMBERS)


def test_an_update_that_is_refused_changes_nothing() -> None:
    metrics = CaptionMetrics()
    metrics.update(SAID[:1], SCENES[:1], [0])
    with pytest.raises(WhatwhereError, match="lengths differ"):
        metrics.update(["a dog"], SCENES[:2], [0, 1])
    assert metrics.compute()["all"] == 1


def test_written_sentences(tmp_path: Path) -> None:
    metrics = CaptionMetrics()
    metrics.update(SAID, SCENES, [3, 2, 1, 0])
    metrics.compute()
    metrics.write(tmp_path)
    images = json.loads((tmp_path / "captions.json").read_text())["images"]
    assert [(one["number"], one["name"], one["caption"]) for one in images] == [
        (number, str(3 - number), SAID[3 - number]) for number in range(4)
    ]
    assert images[3]["references"] == list(SCENES[0].captions)


def test_facts_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = CaptionMetrics(), CaptionMetrics()
    one.update(SAID[:2], SCENES[:2], [0, 1])
    other.update(SAID[2:], SCENES[2:], [2, 3])
    whole = CaptionMetrics()
    whole.update(SAID, SCENES, range(4))
    expected = whole.compute()

    def gather(parts: list[object], own: object) -> None:
        parts[:] = [own, other.scores._own if own is one.scores._own else other._facts]

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    assert one.compute() == expected
