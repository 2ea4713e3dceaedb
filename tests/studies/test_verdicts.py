import numpy as np
import pytest
from simulation import EQUAL, UNEQUAL, assert_at_most, error, studies

from whatwhere.studies import Outcome, Plan, Rules, decide, p_different
from whatwhere.studies.plan import plan_looks
from whatwhere.studies.sequence import Looks
from whatwhere.tasks import Headline

POINTS = Headline("top1", "accuracy", unit="%", scale=100, difference_unit="points")
PIXELS = Headline("mae", "mean error", unit="px", digits=2, higher_is_better=False)
ONCE = Plan((4,))


def words(values, rules=None, **more):
    return decide({"se": np.array(values)}, rules or Rules(POINTS, ONCE, 2.0, 0.1), **more)["se"].words


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([6.1, 5.5, 6.3, 5.9], "better"),
        ([-6.1, -5.5, -6.3, -5.9], "worse"),
        ([0.6, 0.5, 0.7, 0.6], "better, by less than 2.0 points"),
        ([0.3, -0.2, 0.1, -0.1], "the same within ±2.0 points"),
        ([], "no finished pair of runs"),
        ([9.0], "one seed: no verdict below 3"),
        ([-0.7, -0.7], "2 seeds: no verdict below 3"),
    ],
)
def test_words(values, says):
    assert words(values) == says


def test_two_equal_differences_are_no_verdict():
    """Not “worse”, whatever the interval: two seeds may agree by chance."""
    found = decide({"se": np.array([-0.7, -0.7])}, Rules(POINTS, ONCE))["se"]
    assert (found.kind, found.decided, found.p) == ("none", False, 1.0)


def test_a_lower_value_may_be_the_better_one():
    rules = Rules(PIXELS, ONCE, 0.0, 0.01)
    assert words([-0.5, -0.52, -0.48, -0.5], rules) == "better"
    assert words([0.5, 0.52, 0.48, 0.5], rules) == "worse"


def test_without_a_margin_nothing_is_the_same():
    assert "not enough seeds" in words([0.3, -0.2, 0.1, -0.1], Rules(POINTS, ONCE, 0.0, 0.1))


def test_how_many_seeds_and_how_long():
    """One network at level 0.05: a difference of one standard deviation needs ten seeds."""
    values = np.array([1.0, 1.0, -1.0, 3.0])
    values = 1.0 + (values - values.mean()) / values.std(ddof=1)
    rules = Rules(POINTS, ONCE)
    found = decide({"se": values}, rules, seconds={"se": 90.0})["se"]
    assert (found.more, found.words) == (6, "not enough seeds: about 6 more, some 9 min")
    assert words(values, rules, seconds={"se": 5.0}) == "not enough seeds: about 6 more, some 30 s"
    assert words(values, rules, seconds={"se": 3600.0}) == "not enough seeds: about 6 more, some 6 h"
    assert words(values, rules) == "not enough seeds: about 6 more"
    assert words(values - 1.0, rules) == "not enough seeds: more than 200 would be needed"
    two = decide({"se": values, "cbam": values}, rules)["se"]
    assert two.more > 6, "two networks are corrected for"


def test_what_was_decided_stands_and_is_out_of_the_correction():
    rules = Rules(POINTS, ONCE)
    values = np.array([2.0, 2.9, 1.1, 2.2])
    p = p_different(values)
    alone = decide({"se": values, "cbam": values + np.array([9, 0, -9, 0])}, rules)["se"].p
    assert alone == pytest.approx(2 * p)
    earlier = decide({"cbam": np.array([9.0, 9.1, 9.2])}, rules)
    later = decide({"se": values, "cbam": np.array([0.0, -9.0, 9.0])}, rules, earlier)
    assert later["cbam"].kind == "better"
    assert later["se"].p == pytest.approx(p)


def test_looks_are_corrected_for():
    values = np.array([2.0, 2.9, 1.1, 2.2])
    one, three = (decide({"se": values}, Rules(POINTS, plan))["se"].p for plan in (ONCE, Plan((4, 8, 12))))
    assert one == pytest.approx(p_different(values))
    assert three == pytest.approx(Plan((4, 8, 12)).correct(one))
    assert three > 1.5 * one


# Error rates of whole studies.

DRAWS = 800


@pytest.fixture
def quick(monkeypatch):
    """How many seeds it would take is not asked here, and takes most of the time."""
    monkeypatch.setattr("whatwhere.studies.verdicts.seeds_needed", lambda *_: None)


def false_claims(differences, effects, margin, plan=ONCE, stops=True):
    """Shares of studies with any false “better” or “worse”, and with any false “the same”."""
    rules, wrong = Rules(POINTS, plan, margin), np.zeros(2)
    for one in differences:
        verdicts = {}
        for count in plan.counts:
            decided = {arm: v for arm, v in verdicts.items() if v.decided} if stops else {}
            verdicts = decide({arm: one[arm, :count] for arm in range(len(one))}, rules, decided)
            if all(v.decided for v in verdicts.values()):
                break
        signs = {arm: {"better": 1, "worse": -1}.get(v.kind, 0) for arm, v in verdicts.items()}
        wrong[0] += any(sign and sign != np.sign(effects[arm]) for arm, sign in signs.items())
        wrong[1] += any((v.kind == "same" or v.within) and abs(effects[arm]) >= margin for arm, v in verdicts.items())
    return wrong / len(differences)


@pytest.mark.parametrize("spreads", [EQUAL, UNEQUAL])
@pytest.mark.parametrize(("effects", "seeds"), [((0.0,) * 4, 4), ((0.0, 8.0, 0.0, -8.0), 6), ((2.0,) * 4, 6)])
def test_a_study_has_at_most_five_percent_of_each_false_claim(quick, spreads, effects, seeds):
    d = studies(np.random.default_rng(1), DRAWS, seeds, spreads, effects)
    different, same = false_claims(d, effects, margin=2.0, plan=Plan((seeds,)))
    assert_at_most(different, 0.05, DRAWS, at_least=0.01 if effects[0] == 0 else 0.0)
    assert_at_most(same, 0.05, DRAWS)


LONG = [
    pytest.param(spreads, effects, 8000, marks=pytest.mark.slow)
    for spreads in (EQUAL, UNEQUAL, (3.0, 1.0, 1.0, 1.0, 1.0))
    for effects in ((0.0,) * 4, (0.0, 4.0, 0.0, -1.0), (2.0, -2.0, 0.0, 2.0))
]


@pytest.mark.parametrize(
    ("spreads", "effects", "draws"), [(UNEQUAL, (0.0,) * 4, 600), (EQUAL, (2.0, -2.0, 0.0, 2.0), 600), *LONG]
)
def test_a_study_that_runs_until_it_is_decided_keeps_its_error(quick, spreads, effects, draws):
    """Three looks, networks that are decided stop, Holm's steps over those that are left."""
    d = studies(np.random.default_rng(2), draws, 12, spreads, effects)
    different, same = false_claims(d, effects, margin=2.0, plan=Plan((4, 8, 12)))
    assert_at_most(different, 0.05, draws)
    assert_at_most(same, 0.05, draws)


@pytest.mark.parametrize("draws", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_one_network_with_looks_is_wrong_as_often_as_stated(quick, draws):
    d = studies(np.random.default_rng(3), draws, 12, (1.0, 2.0), (0.0,))
    different, _ = false_claims(d, (0.0,), margin=0.0, plan=Plan((4, 8, 12)))
    assert abs(different - 0.05) < error(0.05, draws)
    naive = np.mean([any(p_different(one[0, :n]) <= 0.05 for n in (4, 8, 12)) for one in d])
    assert abs(naive - 0.1148) < error(0.1148, draws)


@pytest.mark.parametrize("draws", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_study_that_is_given_more_seeds_later_keeps_its_error(quick, draws):
    """Whoever extends it says what the last look says, or stops at a first look that says the same at its level."""
    plan = Plan((6, 12))
    d = studies(np.random.default_rng(4), draws, 12, (1.0, 1.0), (0.0,))
    different, _ = false_claims(d, (0.0,), margin=0.0, plan=plan)
    assert abs(different - 0.05) < error(0.05, draws)


# The looks themselves.


def runs(arm, values, seconds=10.0, first=0):
    return [Outcome(arm, first + seed, [value], [1.0], seconds, []) for seed, value in enumerate(values)]


def test_networks_that_are_decided_get_no_more_seeds():
    rules = Rules(POINTS, Plan(plan_looks(9)), 2.0)
    looks = Looks(["se", "cbam"], rules, stops=True, at_once=2)
    assert looks.open == ["se", "cbam"]
    generator = np.random.default_rng(0)
    plain = generator.normal(70, 1, 9)
    noisy = plain + generator.normal(3, 5, 9)
    outcomes = runs("plain", plain[:3]) + runs("cbam", plain[:3] + np.array([20.0, 20.1, 20.2])) + runs("se", noisy[:3])
    first = looks.take(3, outcomes, 0.1)
    assert first.verdicts["cbam"].words == "better"
    assert first.verdicts["se"].kind == "undecided"
    assert looks.open == ["se"]
    outcomes += runs("plain", plain)[3:6] + runs("se", noisy)[3:6]
    second = looks.take(6, outcomes, 0.1)
    assert second.verdicts["cbam"] == first.verdicts["cbam"]
    assert (second.differences["cbam"].n, second.differences["se"].n) == (3, 6)


def test_without_stopping_all_go_on():
    looks = Looks(["se"], Rules(POINTS, Plan((3, 6))), stops=False)
    plain = [70.0, 71.0, 72.0]
    looks.take(3, runs("plain", plain) + runs("se", [90.0, 91.1, 92.0]), 0.1)
    assert looks.taken[0].verdicts["se"].kind == "better"
    assert looks.open == ["se"]


def test_the_time_of_more_seeds_is_that_of_both_networks_over_the_workers():
    looks = Looks(["se"], Rules(POINTS, Plan((4,))), stops=False, at_once=2)
    looks.take(4, runs("plain", [70, 71, 72, 73], 10.0) + runs("se", [71, 70, 75, 74], 30.0), 0.1)
    verdict = looks.taken[0].verdicts["se"]
    assert verdict.words == f"not enough seeds: about {verdict.more} more, some {round(verdict.more * 20 / 60)} min"


def test_a_seed_that_failed_on_either_side_is_left_out():
    looks = Looks(["se"], Rules(POINTS, Plan((4,))), stops=False)
    outcomes = runs("plain", [70.0, 71.0, 72.0, 73.0]) + runs("se", [72.0, 73.1, 74.0])
    outcomes[0] = Outcome("plain", 0, [], [], 0.0, [], "not finite")
    looks.take(4, outcomes, 0.1)
    assert looks.values["se"].tolist() == [2.1, 2.0]
    assert looks.taken[0].verdicts["se"].words == "2 seeds: no verdict below 3"
