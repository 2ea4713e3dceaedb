import pytest
import torch

from whatwhere.data import open_scenes
from whatwhere.data.config import DataConfig, scene_config
from whatwhere.data.detection.opening import SCENES
from whatwhere.data.sentences import NUMERALS
from whatwhere.errors import WhatwhereError

from .conftest import opened, pass_over


def test_scenes_are_those_of_the_config() -> None:
    train, test = opened("scenes", train_limit=12, test_limit=6)
    assert (len(train), len(test), train.size, train.flip, train.classes) == (12, 6, 96, False, NUMERALS)
    assert pass_over(train) == list(range(12))
    assert not train.problems
    assert not train.broken
    config = scene_config(DataConfig("scenes", train_limit=12, test_limit=6), SCENES)
    scenes = open_scenes(config, progress=False).train
    batch = train.__getitems__([7, 2])
    for place, index in enumerate([7, 2]):
        assert torch.equal(batch["images"][place], scenes.images[index])
        assert torch.equal(batch["boxes"][place], scenes.boxes[index])
        assert torch.equal(batch["labels"][place], scenes.objects[index])
    assert (train.name(7), train.image_ids, train.category_ids) == ("scene 7", list(range(1, 13)), tuple(range(1, 11)))
    assert train.truth(7)["size"] == (96, 96)


def test_a_scene_holds_several_digits() -> None:
    train, _ = opened("scenes", train_limit=60, test_limit=1)
    counts = {len(train.truth(i)["labels"]) for i in range(60)}
    assert counts == set(range(SCENES.digits[0], SCENES.digits[1] + 1))


def test_options_in_the_word_go_before_the_defaults() -> None:
    train, _ = opened("scenes:size=64:digits=2-2:train=9:test=3", train_limit=8, flip=True)
    assert (len(train), train.size, train.flip) == (8, 64, True)
    assert {len(train.truth(i)["labels"]) for i in range(8)} == {2}
    assert opened("scenes:train=9:test=3", size=64).train.size == 64


def test_the_seed_makes_other_scenes() -> None:
    first, again, other = (opened("scenes:train=5:test=2", data_seed=seed).train for seed in (0, 0, 1))
    images = [dataset.__getitems__([0])["images"][0] for dataset in (first, again, other)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


@pytest.mark.parametrize("word", ["scenes:digit=3", "scenes:digits=0-3", "scenes:size=8"])
def test_options_that_make_no_sense(word: str) -> None:
    with pytest.raises(WhatwhereError):
        opened(word)


def test_the_scenes_of_classification_stay_as_they_are() -> None:
    config = scene_config(DataConfig("scenes:size=64", data_seed=3, train_limit=5))
    assert (config.size, config.digits, config.train, config.test, config.seed) == (64, (1, 1), 5, 2000, 3)
