import numpy as np
import pytest
from scipy import stats
from simulation import assert_at_most, assert_rate

from whatwhere.errors import WhatwhereError
from whatwhere.studies import Plan
from whatwhere.studies.plan import plan_looks

DRAWS = 40_000


def p_values(counts, draws, seed, mean=0.0):
    """Two-sided p-values at nested looks, with another computation and other random numbers than the package's."""
    x = np.random.default_rng(seed).normal(mean, 2.5, (draws, counts[-1]))
    t = [x[:, :n].mean(1) / stats.sem(x[:, :n], axis=1) for n in counts]
    return np.stack([2 * stats.t.sf(np.abs(some), n - 1) for some, n in zip(t, counts, strict=True)], 1)


@pytest.mark.parametrize("counts", [(4, 8, 12), (6, 12), (3, 6, 9, 20), (6, 7, 8, 9, 10)])
@pytest.mark.parametrize("alpha", [0.05, 0.0125])
def test_looks_keep_the_error_over_all(counts, alpha):
    smallest = p_values(counts, DRAWS, 11).min(1)
    plan = Plan(counts)
    assert_rate(np.mean(smallest <= plan.nominal(alpha)), alpha, DRAWS)
    assert_rate(np.mean([plan.correct(p) <= alpha for p in smallest[:5000]]), alpha, 5000)


def test_looking_until_it_is_significant_is_wrong_twice_as_often():
    smallest = p_values((4, 8, 12), DRAWS, 11).min(1)
    assert_rate(np.mean(smallest <= 0.05), 0.1148, DRAWS)


def test_levels_are_near_pococks_for_many_seeds():
    """His constant for three looks is 0.0221; with few seeds t is not normal, and the level is a little lower."""
    assert Plan((40, 80, 120)).level == pytest.approx(0.0221, abs=0.0006)
    assert Plan((40, 80)).level == pytest.approx(0.0294, abs=0.0006)
    assert Plan((4, 8, 12)).level == pytest.approx(0.0203, abs=0.0003)


def test_one_look_costs_nothing():
    assert Plan((6,)).level == 0.05
    assert Plan((6,)).correct(0.03) == 0.03
    assert Plan((2, 6)).level == 0.05  # with two seeds there is no verdict that could be wrong


def test_corrected_values_rise_and_agree_with_the_level():
    plan = Plan((4, 8, 12))
    p = np.logspace(-8, 0, 200)
    corrected = np.array([plan.correct(value) for value in p])
    assert (np.diff(corrected) >= 0).all()
    assert ((corrected >= p) & (corrected <= np.minimum(1, 3 * p + 1e-12))).all()
    for alpha in (0.05, 0.0125):
        assert plan.correct(plan.nominal(alpha)) == pytest.approx(alpha, rel=0.01)


def test_one_sided_tests_are_kept_too():
    """The test of being the same is one-sided: correcting it as a two-sided one is on the safe side."""
    x = np.random.default_rng(5).normal(0, 1, (DRAWS, 12))
    one = [stats.t.sf(x[:, :n].mean(1) / stats.sem(x[:, :n], axis=1), n - 1) for n in (4, 8, 12)]
    assert_at_most(np.mean(np.min(one, 0) <= Plan((4, 8, 12)).level), 0.05, DRAWS, at_least=0.04)


def test_where_looks_are_taken():
    assert plan_looks(12) == (4, 8, 12)
    assert plan_looks(3) == (3,)
    assert plan_looks(5) == (3, 4, 5)
    assert plan_looks(12, before=[4]) == (4, 8, 12)
    assert plan_looks(24, before=[4, 8, 12]) == (4, 8, 12, 16, 24)
    assert plan_looks(6, before=[6]) == (6,)


@pytest.mark.parametrize("counts", [(), (4, 4), (8, 4), (0, 4)])
def test_looks_that_do_not_grow_raise(counts):
    with pytest.raises(WhatwhereError, match="must grow"):
        Plan(counts)
