import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from whatwhere.errors import WhatwhereError
from whatwhere.studies import Interval, interval, paired, verdict

NUMBERS = st.lists(st.floats(-100, 100), min_size=2, max_size=20)


@given(NUMBERS)
def test_interval_is_students(values):
    found = interval(values)
    assert found.low - 1e-9 <= found.mean <= found.high + 1e-9
    spread = np.std(values, ddof=1)
    if spread > 1e-6:
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-6, atol=1e-6)


def test_by_hand():
    found = interval([1.0, 2.0, 3.0])  # t(2) = 4.30265, s = 1, divided by √3
    assert (found.mean, round(found.half, 4), found.n) == (2.0, 2.4841, 3)


def test_intervals_hold_the_true_mean_as_often_as_they_say():
    generator = np.random.default_rng(0)
    intervals = [interval(generator.normal(5, 2, 4)) for _ in range(2000)]
    assert 0.93 < np.mean([i.low <= 5 <= i.high for i in intervals]) < 0.97


def test_pairs_take_out_what_both_share():
    baseline = [70.0, 80.0, 90.0]
    found = paired([71.0, 81.1, 90.9], baseline)
    assert found.half < 0.3 < interval(baseline).half
    assert verdict(found) == "better"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Interval(1, 0.1, 2, 3), "better"),
        (Interval(-1, -2, -0.1, 3), "worse"),
        (Interval(1, -0.1, 2, 3), "no difference found"),
        (Interval(0, 0, 0, 3), "no difference found"),
        (interval([3.0]), "one seed: no verdict"),
    ],
)
def test_verdicts(found, words):
    assert verdict(found) == words


def test_a_lower_value_may_be_the_better_one():
    assert verdict(Interval(1, 0.1, 2, 3), higher_is_better=False) == "worse"
    assert verdict(Interval(-1, -2, -0.1, 3), higher_is_better=False) == "better"
    assert verdict(Interval(1, -0.1, 2, 3), higher_is_better=False) == "no difference found"


def test_one_value_says_nothing_of_the_spread():
    assert math.isnan(interval([3.0]).half)


def test_nothing_and_unequal_pairs_raise():
    with pytest.raises(WhatwhereError, match="at least one"):
        interval([])
    with pytest.raises(WhatwhereError, match="got 2 and 1"):
        paired([1, 2], [1])
