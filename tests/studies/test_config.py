import pytest
import torch

from whatwhere.cost import count_multiply_adds, count_parameters
from whatwhere.data import DataConfig
from whatwhere.errors import WhatwhereError
from whatwhere.layers import entry as layer
from whatwhere.layers import names, parse
from whatwhere.layers.ghost_conv import GhostConv
from whatwhere.networks import ModelConfig
from whatwhere.studies import PRESETS, StudyConfig
from whatwhere.studies.arms import make_arms
from whatwhere.surgery import attentions
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
        ({"attention": ("none",), "ghost": ("2", "2")}, "named twice"),
        ({"ghost": ("1",)}, "ghost='1': must be none, or a ratio from 2"),
        ({"ghost": ("2:maps:3",)}, "ghost='2:maps:3': must be"),
        ({"ghost": ("none",)}, "always part of a study"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"jobs": -1}, "jobs must be at least 0"),
        ({"until_decided": True, "max_seeds": 2}, "max_seeds must be at least 3"),
        ({"minutes": 5.0}, "add --until-decided"),
        ({"until_decided": True, "minutes": -1.0}, "minutes must be at least 0"),
        ({"margin": float("nan")}, "margin must be at least 0"),
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


@pytest.mark.parametrize("preset", [name for name in PRESETS if name.startswith("cbam")])
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


def test_arms_with_ghost_convolutions():
    """Alone and with each attention; the narrower control has their multiply-adds."""
    arms, remarks = arms_of(ModelConfig("small-vgg"), preset="ghost")
    names = ["plain", "se", "cbam", "ghost:2", "ghost:2+se", "ghost:2+cbam", "wider", "narrower"]
    assert [arm.name for arm in arms] == names
    assert remarks == []
    models = {arm.name: arm.build() for arm in arms}
    ghosts = {name: sum(isinstance(m, GhostConv) for m in model.modules()) for name, model in models.items()}
    assert [name for name, number in ghosts.items() if number == 5] == names[3:6]
    assert sum(ghosts.values()) == 15
    assert len(attentions(models["ghost:2+cbam"])) == len(attentions(models["cbam"])) == 3
    adds = {name: count_multiply_adds(model, (3, 32, 32)) for name, model in models.items()}
    assert adds["ghost:2"] < 0.6 * adds["plain"]
    assert adds["narrower"] == pytest.approx(adds["ghost:2"], rel=0.02)


def test_ghost_convolutions_alone_and_without_controls():
    arms, _ = arms_of(attention=("none",), ghost=("2", "4:random"))
    assert [arm.name for arm in arms] == ["plain", "ghost:2", "ghost:4:random", "narrower"]
    arms, _ = arms_of(attention=("se",), ghost=("2",), control=False)
    assert [arm.name for arm in arms] == ["plain", "se", "ghost:2", "ghost:2+se"]


def test_a_network_that_cannot_be_narrowed_has_no_such_control(tmp_path):
    model = create("classify", {"data": {"data": SMALL.data}, "model": {"name": "small-vgg"}}).build(0)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    trained = ModelConfig("small-vgg", weights=str(tmp_path / "weights.pth"))
    arms, remarks = arms_of(trained, attention=("none",), ghost=("2:random",))
    assert [arm.name for arm in arms] == ["plain", "ghost:2:random"]
    assert "a narrowed network has no pretrained weights" in remarks[0]


def test_all_is_every_attention_that_can_start_as_the_identity():
    specs = StudyConfig(attention=("all",)).specs
    assert {"se", "cbam", "eca"} <= set(specs) == {name for name in names() if layer(name).exact_identity}
    assert StudyConfig(task="caption", attention=("all",)).specs == ("soft", "s", "c", "s-c", "c-s")
    with pytest.raises(WhatwhereError, match="named twice"):
        StudyConfig(attention=("se", "all"))
