import numpy as np
import pytest
from scipy import stats
from simulation import assert_rate, error

from whatwhere.studies import crossed_interval, interval
from whatwhere.studies.crossed import ImageScores
from whatwhere.training.folder import RunFolder


def hits(generator, seeds, images, spreads, of_images, effect=0.2):
    """Differences of hits ``(S, I)`` of two networks: images of unequal difficulty, unequal for the two networks."""
    easy = generator.normal(1.0, 1.5, (1, images))

    def network(mean, spread):
        own = generator.normal(0, of_images, (1, images)) + generator.normal(0, spread, (seeds, 1))
        return easy + mean + own + generator.normal(0, 1, (seeds, images)) > 0

    return network(effect, spreads[1]).astype(float) - network(0.0, spreads[0])


def truth(spreads, of_images, effect=0.2):
    """The difference over all seeds and all images."""
    rate = lambda mean, spread: stats.norm.cdf((1 + mean) / (1 + 1.5**2 + spread**2 + of_images**2) ** 0.5)  # noqa: E731
    return rate(effect, spreads[1]) - rate(0.0, spreads[0])


CASES = [((0.02, 0.02), 0.6), ((0.1, 0.3), 0.6), ((0.1, 0.1), 0.0)]
DRAWS = 2000


@pytest.mark.parametrize("seeds", [3, 6])
@pytest.mark.parametrize(("spreads", "of_images"), CASES)
def test_it_holds_the_true_difference_as_often_as_it_says(seeds, spreads, of_images):
    generator = np.random.default_rng(seeds)
    expected = truth(spreads, of_images)
    found = [crossed_interval(hits(generator, seeds, 200, spreads, of_images), step=1 / 200) for _ in range(DRAWS)]
    assert_rate(np.mean([one.low <= expected <= one.high for one in found]), 0.95, DRAWS)


def test_an_interval_over_seeds_alone_is_too_narrow_for_other_images():
    generator = np.random.default_rng(0)
    (spreads, of_images), draws = CASES[0], 1000
    tables = [hits(generator, 6, 200, spreads, of_images) for _ in range(draws)]
    expected = truth(spreads, of_images)
    alone = [interval(table.mean(1)) for table in tables]
    assert np.mean([one.low <= expected <= one.high for one in alone]) < 0.91


@pytest.mark.slow
def test_percentiles_of_a_crossed_bootstrap_do_not_hold_what_they_say():
    """The reason for the formula: 95 % would be right, and the formula has it in both cases."""
    generator = np.random.default_rng(1)
    rates = []
    for spreads, of_images in (((1.0, 1.0), 0.6), ((0.02, 0.02), 0.0)):
        expected, held, draws = truth(spreads, of_images), [], 600
        for _ in range(draws):
            table = hits(generator, 4, 200, spreads, of_images)
            seeds = generator.multinomial(4, [0.25] * 4, 400) / 4
            images = generator.multinomial(200, [1 / 200] * 200, 400) / 200
            low, high = np.quantile(((seeds @ table) * images).sum(1), [0.025, 0.975])
            held.append(low <= expected <= high)
        rates.append(np.mean(held))
    assert rates[0] < 0.95 - error(0.95, draws)
    assert rates[1] > 0.95 + error(0.95, draws)


def test_it_is_never_narrower_than_over_seeds_alone():
    generator = np.random.default_rng(2)
    for _ in range(200):
        table = hits(generator, 3, 50, (0.3, 0.3), 0.3)
        found = crossed_interval(table)
        assert found is None or found.half >= interval(table.mean(1)).half - 1e-12


def test_by_hand():
    """Only images differ: their variance alone, with the t quantile of very many degrees of freedom."""
    table = np.tile(np.tile([0.0, 1.0], 100), (4, 1)) + 1e-6 * np.arange(4)[:, None]
    assert crossed_interval(table).half == pytest.approx(1.96 * 0.5 / 199**0.5, rel=1e-3)


def test_too_few():
    assert crossed_interval(np.ones((2, 10))) is None
    assert crossed_interval(np.ones((4, 1))) is None
    assert crossed_interval(np.zeros((4, 10))) is None
    assert crossed_interval(np.zeros((4, 10)), step=0.1).half > 0


def test_scores_of_runs_are_matched_by_image(tmp_path):
    """Images that one of the runs could not read are left out."""
    RunFolder(tmp_path / "a").path.mkdir()
    RunFolder(tmp_path / "b").path.mkdir()
    RunFolder(tmp_path / "a").write_scores([2, 0, 1], [1.0, 0.0, 1.0])
    RunFolder(tmp_path / "b").write_scores([0, 2, 3], [1.0, 0.0, 1.0])
    found = ImageScores({"se": {7: tmp_path / "a"}, "plain": {7: tmp_path / "b"}, "x": {7: tmp_path}}, scale=100)
    assert found.differences("se", "plain", [7]).tolist() == [[-100.0, 100.0]]
    assert found.differences("x", "plain", [7]) is None
    assert found.differences("se", "plain", [7, 8]) is None
    assert found.step == pytest.approx(100 / 3)
    RunFolder(tmp_path / "b").write_scores([0, 1], [0.5, 0.0])
    assert ImageScores({"se": {7: tmp_path / "b"}}, scale=1).step == 0
