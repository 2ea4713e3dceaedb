from dataclasses import astuple, fields, replace
from typing import Any

import pytest

from whatwhere.errors import WhatwhereError
from whatwhere.networks import ModelConfig
from whatwhere.networks.captioning.attention import KINDS
from whatwhere.tasks.captioning.config import PAPER, CaptionConfig
from whatwhere.training import Recipe

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"attention": "cbam"}, "attention='cbam': must be one of none, soft, s, c, s-c, c-s"),
    ({"hidden": 0}, "hidden=0: must be at least 1"),
    ({"word_dim": 0}, "word_dim=0: must be at least 1"),
    ({"attention_dim": -1}, "attention_dim=-1: must be at least 1"),
    ({"dropout": 1.0}, "dropout=1.0: must be from 0 up to, but not, 1"),
    ({"start": "papr"}, "start='papr': must be 'scaled' or 'paper'"),
    ({"loss": "words"}, r"loss='words': must be one of word, sentence; did you mean 'word'\?"),
    ({"augment": "heavy"}, "augment='heavy': must be one of light, none"),
    ({"layers": 0}, "layers=0: must be at least 1"),
    ({"beam": 0}, "beam=0: must be at least 1"),
    ({"attention": "soft", "layers": 2}, r"attention='soft' looks at one map, not at several \(layers=2\)"),
    ({"layers": 3, "attend": ("a", "b")}, r"layers=3, but attend names 2 maps \(a, b\): give only one of the two"),
    ({"label_smoothing": 1.0}, "label_smoothing=1.0: must be from 0 up to, but not, 1"),
    ({"label_smoothing": float("nan")}, "label_smoothing=nan: must be from 0"),
    ({"length_power": -0.5}, "length_power=-0.5: must be at least 0"),
    ({"length_power": float("nan")}, "length_power=nan: must be at least 0"),
    ({"trained_stages": -1}, "trained_stages=-1: must be at least 0, or None"),
    ({"model": ModelConfig(attention="se")}, r"model.attention='se': .* must be 'none': train the network with"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_what_makes_no_sense_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(WhatwhereError, match=message):
        CaptionConfig(**options)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_may_attend_to_one_named_map_or_several(kind: Any) -> None:
    CaptionConfig(attention=kind, attend=("stages.2",))
    if KINDS[kind].several:
        CaptionConfig(attention=kind, attend=("a", "b"))
        CaptionConfig(attention=kind, attend=("a", "b"), layers=2)
        CaptionConfig(attention=kind, layers=3)


def test_sizes_that_are_given_are_the_decoders() -> None:
    config = CaptionConfig(attention="s", hidden=40, word_dim=30, attention_dim=20, dropout=0.2, start="paper")
    assert astuple(config.shape(17)) == (17, "s", 40, 30, 20, 0.2, "paper")
    with pytest.raises(WhatwhereError, match="vocabulary=1: a captioner needs"):
        config.shape(1)


@pytest.mark.parametrize("stages", [None, 0, 2])
def test_without_its_weights_the_same_parts_are_frozen(stages: int | None) -> None:
    trained = CaptionConfig(model=ModelConfig("resnet18", pretrained=True), trained_stages=stages)
    config = trained.untrained()
    assert not config.model.trained
    assert config.trained_stages == (stages or 0)
    assert replace(config, model=trained.model, trained_stages=stages) == trained
    random = CaptionConfig(trained_stages=stages)
    assert random.untrained() == random


def test_the_papers_recipe_has_fields_of_config_and_recipe() -> None:
    assert set(PAPER) == {"config", "recipe"}
    for part, kind in (("config", CaptionConfig), ("recipe", Recipe)):
        assert set(PAPER[part]) <= {field.name for field in fields(kind)}
    config = CaptionConfig(**PAPER["config"])
    assert astuple(config.shape(5)) == (5, "c-s", 1000, 100, 512, 0.5, "paper")
    recipe = Recipe(**PAPER["recipe"])
    assert (recipe.optimizer, recipe.lr, recipe.schedule) == ("adadelta", 1.0, "constant")


def test_sizes_follow_from_the_network_and_the_state() -> None:
    sizes = [
        astuple(CaptionConfig(model=ModelConfig(name), **options).shape(5))[2:5]
        for name, options in (
            ("small-resnet", {}),
            ("resnet18", {}),
            ("resnet18", {"hidden": 96}),
            ("vgg16", {"hidden": 1}),
        )
    ]
    assert sizes == [(256, 128, 64), (512, 256, 128), (96, 48, 24), (1, 1, 1)]


def test_values_are_kept_where_the_encoder_starts_from_trained_weights() -> None:
    assert CaptionConfig(model=ModelConfig("resnet18", weights="a.pt")).keeps_values
    assert not CaptionConfig(model=ModelConfig("resnet18")).keeps_values
