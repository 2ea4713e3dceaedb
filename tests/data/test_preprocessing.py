import pytest
import torch
from torch import nn

from whatwhere.data import Preprocessing
from whatwhere.errors import WhatwhereError

CONFIG = {"input_size": (3, 48, 48), "mean": (0.1, 0.2, 0.3), "std": (0.3, 0.3, 0.4)}


def model(config: object = None) -> nn.Module:
    made = nn.Conv2d(3, 4, 3)
    if config is not None:
        made.pretrained_cfg = config
    return made


def test_what_a_network_expects() -> None:
    plain = Preprocessing(224, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    own = Preprocessing(48, (0.1, 0.2, 0.3), (0.3, 0.3, 0.4))
    assert Preprocessing.of(model()) == Preprocessing.of({}) == Preprocessing() == plain
    assert Preprocessing.of(model(CONFIG)) == Preprocessing.of(CONFIG) == own
    assert Preprocessing.of(torch.compile(model(CONFIG))) == own
    assert Preprocessing.of(model({"mean": None, "std": (1, 1, 1)})).std == (1, 1, 1)
    given = Preprocessing.of(model(CONFIG), size=20, mean=[0, 0, 0], std=[1, 1, 1])
    assert given == Preprocessing(20, (0, 0, 0), (1, 1, 1))


def test_timms_configuration_is_read() -> None:
    timm = pytest.importorskip("timm")
    expected = Preprocessing.of(timm.create_model("resnet18"))
    assert expected == Preprocessing(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_normalise_is_its_formula_and_leaves_its_input() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    before = images.clone()
    preprocessing = Preprocessing.of(CONFIG)
    got = preprocessing.normalise(images)
    mean, std = (
        torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (CONFIG["mean"], CONFIG["std"])
    )
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), (images.double() / 255 - mean) / std, rtol=0, atol=1e-6)
    assert torch.equal(images, before)
    floating = images.float()
    assert torch.equal(preprocessing.normalise(floating), got)
    assert torch.equal(floating, before.float())


def test_inference_mode_leaves_nothing_that_gradients_cannot_use() -> None:
    preprocessing = Preprocessing(8, (0.11, 0.12, 0.13), (0.31, 0.32, 0.33))
    with torch.inference_mode():
        preprocessing.normalise(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    images = torch.zeros(1, 3, 8, 8, requires_grad=True)
    preprocessing.normalise(images).sum().backward()
    assert images.grad is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "at least 1"),
        ({"size": 8.0}, "whole number"),
        ({"mean": (0.5,)}, "each of R, G, B"),
        ({"std": (0.5, 0.0, 0.5)}, "above 0"),
    ],
)
def test_what_cannot_be(options: dict, words: str) -> None:
    with pytest.raises(WhatwhereError, match=words):
        Preprocessing(**options)
