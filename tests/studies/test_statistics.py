import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from simulation import EQUAL, UNEQUAL, assert_at_most, assert_rate, studies

from whatwhere.errors import WhatwhereError
from whatwhere.studies import holm, interval, p_different, p_same, paired, saved_by_pairing
from whatwhere.studies.statistics import spread

NUMBERS = st.lists(st.floats(-100, 100), min_size=2, max_size=20)


@given(NUMBERS)
def test_interval_is_students(values):
    found = interval(values)
    deviation = np.std(values, ddof=1)
    if deviation > 1e-6:
        assert found.low - 1e-9 <= found.mean <= found.high + 1e-9
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-6, atol=1e-6)
        assert p_different(np.array(values)) == pytest.approx(
            stats.ttest_1samp(values, 0).pvalue if len(values) > 2 else 1.0, abs=1e-9
        )


def test_by_hand():
    found = interval([1.0, 2.0, 3.0])  # t(2) = 4.30265, s = 1, divided by √3
    assert (found.mean, round(found.half, 4), found.n) == (2.0, 2.4841, 3)


@given(st.floats(-100, 100), st.integers(2, 12), st.sampled_from([0.0, 0.01, 0.1]))
def test_an_interval_never_has_zero_width(value, seeds, step):
    """Differences that happen to be equal: no interval where nothing is known of rounding, otherwise rounding's."""
    found = paired([value + 0.7] * seeds, [value] * seeds, step=step)
    if step:
        assert found.half == pytest.approx(stats.t.ppf(0.975, seeds - 1) * step / 6**0.5 / seeds**0.5)
    else:
        assert math.isnan(found.half)


def test_equal_differences_are_no_proof():
    equal = np.array([-0.7, -0.7])
    assert (p_different(equal), p_same(equal, 2.0)) == (1.0, 1.0)
    assert p_different(np.array([-0.7] * 3)) == 1.0
    assert 0 < p_different(np.array([-0.7] * 3), step=0.5) < 0.1
    assert p_different(np.zeros(5), step=0.1) == 1.0
    assert p_same(np.zeros(5), 1.0, step=0.1) < 0.001


def test_rounding_only_widens():
    values = np.array([0.1, 0.4, 0.2])
    assert spread(values, 0.1) == spread(values) == values.std(ddof=1)
    assert spread(values, 1.0) == pytest.approx(1 / 6**0.5)


def test_pairs_take_out_what_both_share():
    baseline = [70.0, 80.0, 90.0]
    found = paired([71.0, 81.1, 90.9], baseline)
    assert found.half < 0.3 < interval(baseline).half
    assert found.low > 0


def test_one_value_says_nothing_of_the_spread():
    assert math.isnan(interval([3.0]).half)


def test_nothing_and_unequal_pairs_raise():
    with pytest.raises(WhatwhereError, match="at least one"):
        interval([])
    with pytest.raises(WhatwhereError, match="got 2 and 1"):
        paired([1, 2], [1])


def test_two_one_sided_tests():
    """The p-value is the one at which the interval of level 1 - 2p touches the margin."""
    values = np.array([0.3, -0.4, 0.5, 0.2])
    p = p_same(values, 1.0)
    assert interval(values, 1 - 2 * p).high == pytest.approx(1.0)
    assert p_same(-values, 1.0) == p
    assert p_same(values, 0.1) > 0.5
    assert p_same(values, 0.0) == 1.0


def test_holm_by_hand():
    p = {"a": 0.04, "b": 0.01, "c": 0.02, "d": 0.5}
    assert holm(p) == pytest.approx({"a": 0.08, "b": 0.04, "c": 0.06, "d": 0.5})
    assert holm({"a": 0.02}, total=3) == {"a": 0.06}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


DRAWS = 4000


@pytest.mark.parametrize("seeds", [3, 4, 6, 12])
@pytest.mark.parametrize("own", [(1.0, 1.0), (0.2, 3.0)])
def test_paired_intervals_hold_the_true_difference_as_often_as_they_say(seeds, own):
    d = studies(np.random.default_rng(seeds), DRAWS, seeds, own, effects=(0.4,))[:, 0]
    held = [found.low <= 0.4 <= found.high for found in map(interval, d)]
    assert_rate(np.mean(held), 0.95, DRAWS)


@pytest.mark.parametrize("seeds", [3, 6])
def test_one_test_is_wrong_as_often_as_it_says(seeds):
    d = studies(np.random.default_rng(1), DRAWS, seeds, (0.3, 3.0), effects=(0.0,))[:, 0]
    assert_rate(np.mean([p_different(values) <= 0.05 for values in d]), 0.05, DRAWS)


@pytest.mark.parametrize("seeds", [3, 6])
def test_the_same_is_said_as_often_as_stated_at_the_margin(seeds):
    d = studies(np.random.default_rng(2), DRAWS, seeds, (0.1, 0.1), effects=(1.0,))[:, 0]
    assert_rate(np.mean([p_same(values, 1.0) <= 0.05 for values in d]), 0.05, DRAWS)
    noisy = studies(np.random.default_rng(2), DRAWS, seeds, (1.0, 3.0), effects=(1.0,))[:, 0]
    assert_at_most(np.mean([p_same(values, 1.0) <= 0.05 for values in noisy]), 0.05, DRAWS)


@pytest.mark.parametrize("spreads", [EQUAL, UNEQUAL, (3.0, 1.0, 1.0, 1.0, 1.0)])
@pytest.mark.parametrize("effects", [(0.0,) * 4, (0.0, 40.0, 0.0, 40.0)])
def test_holm_keeps_the_chance_of_any_false_difference(spreads, effects):
    d = studies(np.random.default_rng(3), DRAWS, 4, spreads, effects)
    false = [
        any(p <= 0.05 for arm, p in holm({i: p_different(v) for i, v in enumerate(one)}).items() if effects[arm] == 0)
        for one in d
    ]
    assert_at_most(np.mean(false), 0.05, DRAWS, at_least=0.02)


def test_without_holm_the_chance_is_several_times_as_large():
    d = studies(np.random.default_rng(3), DRAWS, 4, EQUAL)
    assert np.mean([any(p_different(v) <= 0.05 for v in one) for one in d]) > 0.11


@pytest.mark.parametrize("shared", [0.0, 2.0])
def test_what_pairing_saves(shared):
    """The variance that both sides share, as a share of all: 0 without anything shared."""
    generator = np.random.default_rng(4)
    common = shared * generator.standard_normal(4000)
    plain, one, two = (common + generator.standard_normal(4000) for _ in range(3))
    assert saved_by_pairing([(one, plain), (two, plain)]) == pytest.approx(shared**2 / (1 + shared**2), abs=0.05)
    assert math.isnan(saved_by_pairing([([1.0], [2.0])]))
    assert saved_by_pairing([([1.0, 2.0], [2.0, 1.0])]) == pytest.approx(-1.0)
