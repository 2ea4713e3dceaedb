"""A study of detectors: mAP and AP50 in place of accuracy, hits and misses in the report."""

import json

import pytest

from whatwhere.studies import StudyConfig, study
from whatwhere.training import Recipe


def test_the_tasks_own_recipe_is_the_default():
    assert StudyConfig(task="detect").recipe == Recipe(epochs=8, batch_size=16, ema=0.99)
    assert StudyConfig().recipe == Recipe(ema=0.99)
    assert (StudyConfig().seeds, StudyConfig(task="detect").seeds) == (9, 4)
    assert StudyConfig(task="detect", recipe=Recipe(epochs=1)).recipe == Recipe(epochs=1)


@pytest.mark.slow
def test_a_study_of_detectors(tmp_path):
    config = {"data": {"data": ["scenes:size=64:train=48:test=8"]}, "channels": 32}
    recipe = Recipe(epochs=2, batch_size=12)
    asked = StudyConfig("detect", config, attention=("cbam",), seeds=2, recipe=recipe, images=1, out=tmp_path / "study")
    results = study(asked, progress=False, command="whatwhere study detect")
    assert [row.arm for row in results.rows] == ["plain", "cbam", "wider"]
    titles = results.titles
    assert titles[:2] == ["network", "mAP %"]
    assert "AP50 %" in titles
    assert "gate on objects %" in titles
    for row in results.rows:
        cells = dict(zip(titles, results.cells(row), strict=True))
        assert cells["AP50 %"] != "–"
        assert (cells["gate on objects %"] != "–") == (row.arm == "cbam")
        assert row.cost.parameters > 100_000
        assert min(row.cost.step.median, row.cost.inference.median) > 0
    assert any("objects' boxes fill" in remark for remark in results.remarks)
    page = (tmp_path / "study" / "report.html").read_text()
    assert "hit" in page
    assert "false alarm" in page
    assert json.loads((tmp_path / "study" / "plain" / "seed-1" / "truth.json").read_text())["annotations"]
