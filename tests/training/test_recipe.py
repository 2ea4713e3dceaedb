import itertools
import math

import pytest
import torch
from torch import nn

from whatwhere.errors import WhatwhereError
from whatwhere.training import Recipe
from whatwhere.training.recipe import build_optimizer, learning_rate, parameter_groups


def test_all_wrong_values_come_in_one_error():
    with pytest.raises(WhatwhereError) as error:
        Recipe(epochs=0, lr=-1.0, optimizer="adam", amp="fp8", warmup=2.0, seed=True, threads=0, clip=math.nan, ema=1.0)
    lines = str(error.value).splitlines()[1:]
    named = [line.split("=")[0].strip(" -") for line in lines]
    assert named == ["epochs", "optimizer", "lr", "warmup", "clip", "ema", "amp", "seed", "threads"]
    assert "'adamw' or 'sgd'" in str(error.value)


def test_every_field_says_what_it_is():
    source = __import__("inspect").getsource(Recipe)
    for name in Recipe.__dataclass_fields__:
        after = source.split(f"\n    {name}: ")[1].splitlines()[1].strip()
        assert after.startswith('"""'), name
        assert after.endswith('."""'), name


def test_schedule_rises_to_the_rate_and_falls_to_almost_nothing():
    recipe = Recipe(lr=0.5, warmup=0.1)
    rates = [learning_rate(recipe, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.05)
    assert rates[9] == 0.5 == max(rates)
    assert all(a > b for a, b in itertools.pairwise(rates[9:]))
    assert 0 < rates[-1] < 1e-3
    assert rates[54] == pytest.approx(0.25, abs=0.01)
    for warmup in (0.0, 1.0):
        flat = [learning_rate(Recipe(lr=0.5, warmup=warmup), step, 3) for step in range(3)]
        assert all(0 < rate <= 0.5 for rate in flat)


def test_only_matrices_and_kernels_decay():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    groups = parameter_groups(model, 0.3)
    assert [g["weight_decay"] for g in groups] == [0.3, 0.0]
    assert groups[0]["params"] == [model[3].weight]
    assert {id(p) for p in groups[1]["params"]} == {
        id(p) for p in (model[0].bias, *model[1].parameters(), model[3].bias)
    }


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_optimizer_is_the_papers(name):
    recipe = Recipe(optimizer=name, lr=0.1, weight_decay=0.01)
    plain = torch.optim.AdamW if name == "adamw" else torch.optim.SGD
    own = {"betas": (0.9, 0.999)} if name == "adamw" else {"momentum": 0.9, "nesterov": True}
    models = []
    for build in (
        lambda m: build_optimizer(recipe, m),
        lambda m: plain(m.parameters(), lr=0.1, weight_decay=0.01, **own),
    ):
        torch.manual_seed(0)
        model = nn.Linear(3, 3, bias=False)
        optimizer = build(model)
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.ones(2, 3)).square().sum().backward()
            optimizer.step()
        models.append(model.weight)
    torch.testing.assert_close(models[0], models[1])


def test_nothing_to_train_is_an_error():
    with pytest.raises(WhatwhereError, match="no trainable parameter"):
        build_optimizer(Recipe(), nn.ReLU())
