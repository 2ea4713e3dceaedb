import numpy as np
import pytest
from scipy import stats
from simulation import assert_rate, error

from whatwhere.studies import p_different, p_same, power_different, power_same, seeds_needed, smallest_visible

DRAWS = 3000


@pytest.mark.parametrize(("mean", "spread", "seeds", "alpha"), [(1.5, 1.0, 4, 0.05), (2.0, 2.0, 12, 0.0125)])
def test_power_is_how_often_it_is_found(mean, spread, seeds, alpha):
    d = np.random.default_rng(0).normal(mean, spread, (DRAWS, seeds))
    power = power_different(mean, spread, seeds, alpha)
    assert 0.2 < power < 0.95
    assert_rate(np.mean([p_different(values) <= alpha for values in d]), power, DRAWS)


@pytest.mark.parametrize(("mean", "margin", "seeds"), [(0.0, 1.0, 8), (0.4, 1.5, 8), (-0.4, 1.5, 5)])
def test_power_of_being_the_same(mean, margin, seeds):
    d = np.random.default_rng(1).normal(mean, 1.0, (DRAWS, seeds))
    power = power_same(mean, 1.0, seeds, margin)
    assert 0.2 < power < 0.99
    assert_rate(np.mean([p_same(values, margin) <= 0.05 for values in d]), power, DRAWS)


def test_power_agrees_with_the_noncentral_t():
    for mean, seeds, alpha in ((1.0, 4, 0.05), (0.5, 20, 0.005), (8.0, 3, 0.0125), (0.0, 5, 0.05)):
        bound, shift = stats.t.ppf(1 - alpha / 2, seeds - 1), mean * seeds**0.5
        found = stats.nct.sf(bound, seeds - 1, shift) + stats.nct.cdf(-bound, seeds - 1, shift)
        assert power_different(mean, 1.0, seeds, alpha) == pytest.approx(found, abs=2e-5)


def test_so_many_seeds_are_enough_and_one_less_is_not():
    for mean, spread, alpha, margin in ((1.0, 1.0, 0.05, 0.0), (0.2, 1.0, 0.0125, 1.0), (2.0, 1.5, 0.01, 1.0)):
        needed = seeds_needed(mean, spread, alpha, margin)
        chance = [
            max(power_different(mean, spread, n, alpha), power_same(mean, spread, n, margin, alpha) if margin else 0)
            for n in (needed - 1, needed)
        ]
        assert chance[0] < 0.8 <= chance[1]
    d = np.random.default_rng(2).normal(1.0, 1.0, (DRAWS, seeds_needed(1.0, 1.0, 0.05)))
    assert np.mean([p_different(values) <= 0.05 for values in d]) > 0.8 - error(0.8, DRAWS)


def test_what_cannot_be_counted_out():
    assert seeds_needed(0.0, 1.0, 0.05) is None
    assert seeds_needed(1.0, 1.0, 0.05, margin=1.0) is not None
    assert seeds_needed(50.0, 0.1, 0.05) == 3


def test_the_smallest_visible_difference_has_this_power():
    for seeds in (3, 6, 12):
        assert power_different(smallest_visible(2.0, seeds, 0.0125), 2.0, seeds, 0.0125) == pytest.approx(0.8, abs=1e-3)
    assert smallest_visible(2.0, 6, 0.05) < smallest_visible(2.0, 5, 0.05)
