import pytest

from whatwhere.cost import count_parameters
from whatwhere.data import DataConfig
from whatwhere.errors import WhatwhereError
from whatwhere.layers import parse
from whatwhere.networks import ModelConfig
from whatwhere.studies import PRESETS, StudyConfig
from whatwhere.studies.arms import make_arms
from whatwhere.tasks import create
from whatwhere.tasks.classify import ClassifyConfig

SMALL = DataConfig("scenes:size=32:train=20:test=10")


def arms_of(model=None, **options):
    config = StudyConfig(config=ClassifyConfig(SMALL, model or ModelConfig()), **options)
    return make_arms(config, create("classify", config.config))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attention": ("cbma",)}, "did you mean 'cbam'"),
        ({"attention": ()}, "at least one attention"),
        ({"attention": ("se", "se")}, "named twice"),
        ({"attention": ("none",)}, "always part of a study"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"jobs": -1}, "jobs must be at least 0"),
        ({"preset": "cbam-table9"}, "unknown preset.*did you mean"),
        ({"task": "clasify"}, "did you mean 'classify'"),
        ({"config": {"modle": {}}}, "did you mean 'model'"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(WhatwhereError, match=says):
        StudyConfig(**options)


def test_commas_separate_too():
    assert StudyConfig(attention=("se,cbam", "sam")).specs == ("se", "cbam", "sam")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_the_papers_ablations(preset):
    """Every row of the tables in the paper's form, and no two the same."""
    layers = [parse(spec).create(32) for spec in StudyConfig(preset=preset).specs]
    assert not any(layer.identity for layer in layers)
    assert (
        len({repr(layer) for layer in layers})
        == len(layers)
        == {"cbam-table1": 3, "cbam-table2": 5, "cbam-table3": 4}[preset]
    )


def test_arms():
    arms, remarks = arms_of(attention=("se", "cbam", "cbam:paper"))
    assert [arm.name for arm in arms] == ["plain", "se", "cbam", "cbam:paper", "wider"]
    assert remarks == []
    assert len({arm.slug for arm in arms}) == 5
    parameters = {arm.name: count_parameters(arm.build()) for arm in arms}
    assert parameters["wider"] >= parameters["cbam"] > parameters["se"] > parameters["plain"]
    assert parameters["wider"] < 1.5 * parameters["cbam"]


def test_no_control_is_said():
    _, remarks = arms_of(ModelConfig("resnet18", pretrained=True), attention=("se",))
    assert "no pretrained weights" in remarks[0]
    arms, remarks = arms_of(attention=("se",), control=False)
    assert [arm.name for arm in arms] == ["plain", "se"]
    assert remarks == []


def test_arms_start_from_a_file(tmp_path):
    import torch

    from whatwhere.checkpoints import build

    file = str(tmp_path / "weights.pth")
    torch.save(build(ModelConfig("small-resnet", classes=7)).state_dict(), file)
    arms, remarks = arms_of(ModelConfig(weights=file), attention=("se",))
    assert [(arm.name, arm.config["model"]["weights"]) for arm in arms] == [("plain", file), ("se", file)]
    assert "no pretrained weights" in remarks[0]
    with pytest.raises(WhatwhereError, match="does not hold the weights of small-vgg"):
        arms_of(ModelConfig("small-vgg", weights=file), attention=("se",))
    with pytest.raises(WhatwhereError, match="choose one of the two"):
        StudyConfig(config={"model": {"weights": file, "pretrained": True}})


def test_a_study_that_cannot_start_leaves_no_folder(tmp_path):
    from whatwhere.studies import study

    config = StudyConfig(
        config={"data": {"data": SMALL.data}, "model": {"weights": str(tmp_path / "no.pth")}}, out=tmp_path / "study"
    )
    with pytest.raises(WhatwhereError, match=r"there is no file .*no\.pth"):
        study(config, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_arms_start_from_the_same_weights():
    """With one seed, what plain and attended networks share is equal: pairs differ by the attention alone."""
    from whatwhere.tasks.classify import Classify

    plain, attended = (
        Classify(ClassifyConfig(SMALL, ModelConfig(attention=a))).build(3) for a in ("none", "cbam:paper")
    )
    values = attended.state_dict()
    assert all(v.equal(values[k]) for k, v in plain.state_dict().items())
