"""A study of captioners: facts of scenes in place of accuracy, kinds of attention in place of layers' names."""

import json

import pytest

from whatwhere.errors import WhatwhereError
from whatwhere.studies import StudyConfig, study
from whatwhere.training import Recipe


def test_the_tasks_own_attentions_are_the_default():
    assert StudyConfig(task="caption").specs == ("soft", "s", "c", "s-c", "c-s")
    assert StudyConfig().specs == ("se", "cbam", "cbam:paper")
    with pytest.raises(WhatwhereError, match="unknown attention 'cbam' of a captioner"):
        StudyConfig(task="caption", attention=("cbam",))
    with pytest.raises(WhatwhereError, match="unknown attention 'c-s'"):
        StudyConfig(attention=("c-s",))


@pytest.mark.slow
def test_a_study_of_captioners(tmp_path):
    config = {"data": {"data": "scenes:train=48:test=8"}, "hidden": 32}
    recipe = Recipe(epochs=1, batch_size=12)
    arms = ("soft", "c-s:layers=2")
    asked = StudyConfig("caption", config, attention=arms, seeds=2, recipe=recipe, images=1, out=tmp_path / "study")
    results = study(asked, progress=False, command="whatwhere study caption")
    assert [row.arm for row in results.rows] == ["plain", "soft", "c-s:layers=2", "wider"]
    titles = results.titles
    assert titles[:2] == ["network", "facts right %"]
    for title in ("digits %", "colours %", "relation %", "all, unseen %", "CIDEr-D"):
        assert title in titles
    by_arm = {row.arm: row for row in results.rows}
    assert by_arm["wider"].cost.parameters >= by_arm["c-s:layers=2"].cost.parameters
    assert min(row.cost.step.median for row in results.rows) > 0
    page = (tmp_path / "study" / "report.html").read_text()
    assert "SCA-CNN, first channel then spatial attention, 2 maps" in page
    kept = json.loads((tmp_path / "study" / "soft" / "seed-1" / "captions.json").read_text())
    assert len(kept["images"]) == 8
