"""The stopwatch that studies, folding and the benchmarks share."""

import gc
import time

import pytest
import torch

from whatwhere.cost import Measurement, Timing, measure_in_turn, time_in_turn

CPU = torch.device("cpu")


def test_calls_take_turns_in_the_order_given():
    turns, rounds = [], []
    calls = {name: lambda name=name: turns.append(name) for name in "bca"}
    found = measure_in_turn(calls, CPU, 0.0, rounds=4, block=0.0, on_round=lambda: rounds.append(len(turns)))
    each = len(turns) // 3 - 4  # calls of each before the rounds
    assert "".join(turns) == "b" * each + "c" * each + "a" * each + "bca" * 4
    assert rounds == [3 * each + 3 * n for n in (1, 2, 3, 4)]
    assert {len(m.samples) for m in found.values()} == {4}
    assert {m.calls for m in found.values()} == {1}


def test_short_calls_fill_a_block_after_one_that_does_not_count():
    turns = []
    calls = {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}
    found = measure_in_turn(calls, CPU, 0.0, rounds=1, block=1.0)
    assert found["a"].calls > 1
    last = "".join(turns)[-(found["a"].calls + found["b"].calls + 2) :]
    assert last == "a" * (found["a"].calls + 1) + "b" * (found["b"].calls + 1)


def test_rounds_go_on_until_the_time_is_spent():
    found = measure_in_turn({"a": lambda: None}, CPU, 0.05, rounds=2, block=0.0)
    assert len(found["a"].samples) > 2


def test_times_are_milliseconds_of_one_call():
    found = measure_in_turn({"a": lambda: time.sleep(0.004)}, CPU, 0.0, rounds=3)
    assert 4 <= found["a"].first < 400
    assert all(4 <= sample < 400 for sample in found["a"].samples)
    assert found["a"].calls in (1, 2, 3)


def test_quartiles_and_spread():
    timing = Measurement(samples=[5.0, 1.0, 2.0, 3.0, 4.0]).timing
    assert timing == Timing(median=3.0, low=2.0, high=4.0, rounds=5)
    assert timing.spread == pytest.approx(100 * (4 - 2) / 2 / 3)


def breaks():
    raise KeyError("x")


def test_one_that_fails_is_out_and_the_others_go_on():
    count = []

    def breaks_later():
        count.append(1)
        if len(count) > 4:
            raise ValueError("no more\nand so on")

    found = measure_in_turn({"a": breaks, "b": breaks_later, "c": lambda: None}, CPU, 0.0, rounds=5, block=0.0)
    assert found["a"].failure == "raised KeyError: 'x'"
    assert found["b"].failure == "raised ValueError: no more"
    assert found["b"].samples == []
    assert found["c"].failure is None
    assert len(found["c"].samples) == 5
    assert gc.isenabled()


def test_what_is_raised_comes_through_where_nothing_may_fail():
    with pytest.raises(KeyError, match="x"):
        time_in_turn({"a": lambda: None, "b": breaks}, CPU, 0.0)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_timing_for_every_call():
    rounds = []
    found = time_in_turn({"a": lambda: None, "b": lambda: sum(range(1000))}, CPU, 0.0, lambda: rounds.append(1))
    assert list(found) == ["a", "b"]
    assert all(timing.rounds == len(rounds) == 5 and 0 < timing.low <= timing.median for timing in found.values())
    assert found["a"].median < found["b"].median


def test_no_garbage_is_collected_while_the_clock_runs():
    enabled = []
    measure_in_turn({"a": lambda: enabled.append(gc.isenabled())}, CPU, 0.0, rounds=2, block=0.0)
    assert enabled[-2:] == [False, False]
    assert gc.isenabled()
