import pytest

from whatwhere.errors import WhatwhereError
from whatwhere.tasks import Headline, Metric


def test_how_a_value_is_printed():
    accuracy = Metric("top1", "accuracy", unit="%", scale=100)
    assert (accuracy.text(0.8412), accuracy.column, accuracy.label) == ("84.1 %", "accuracy %", "accuracy (%)")
    assert accuracy.number(2.0, sign=True) == "+2.0"
    score = Metric("cider", "CIDEr", digits=3)
    assert (score.text(1.23456), score.column, score.label) == ("1.235", "CIDEr", "CIDEr")


def test_which_value_is_better():
    up, down = (Headline("a", "a", higher_is_better=higher) for higher in (True, False))
    assert [up.is_better(2, than=1), up.is_better(1, than=1), up.is_better(0, than=1)] == [True, False, False]
    assert [down.is_better(2, than=1), down.is_better(1, than=1), down.is_better(0, than=1)] == [False, False, True]


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"scale": float("nan")}, {"digits": -1}])
def test_wrong_values(wrong):
    with pytest.raises(WhatwhereError, match=f"top1: {next(iter(wrong))}="):
        Metric("top1", "accuracy", **wrong)


def test_a_title_at_the_start_of_a_sentence():
    titles = {"accuracy": "Accuracy", "mean error": "Mean error", "mAP": "mAP", "AP50": "AP50"}
    assert {title: Metric("key", title).heading for title in titles} == titles
