import numpy as np
import pytest

from whatwhere.layers import Gates
from whatwhere.views import View

pytest.importorskip("matplotlib")
from whatwhere.views.figure import stages
from whatwhere.views.panels import Scale, percent, round_up, short


def views(*sizes):
    return [View(f"{i}", Gates(), (size, size), 1.0, 1.0) for i, size in enumerate(sizes)]


def chosen(*sizes):
    return [int(view.module) for view in stages(views(*sizes))]


def test_the_last_place_of_each_stage():
    assert chosen(56, 56, 28, 28, 14, 7, 7) == [1, 3, 4, 6]
    assert chosen(8) == [0]
    assert chosen() == []


def test_without_stages_some_evenly():
    assert chosen(*[14] * 3) == [0, 1, 2]
    assert chosen(*[14] * 9) == [0, 2, 4, 6, 8]
    many = chosen(*range(20, 8, -1))
    assert (len(many), many[0], many[-1]) == (5, 0, 11)


def test_one_scale_holds_all_gates_and_is_even_about_neutral():
    gates = [np.array([0.93, 1.0]), np.array([1.112])]
    scale = Scale.around(1.0, gates)
    low, high = scale.ends
    assert low == pytest.approx(1 - 0.12)
    assert high == pytest.approx(1 + 0.12)
    assert scale.ticks == pytest.approx([0.9, 1, 1.1])
    assert all(low <= g <= high for gate in gates for g in gate)
    assert Scale.around(0.5, [np.full(4, 0.5)]).half == 0.01, "gates that do not move are not blown up"
    assert Scale.around(0.5, []).half == 0.01


def test_numbers():
    assert round_up(0.1112) == pytest.approx(0.12)
    assert round_up(0.12) == pytest.approx(0.12)
    assert round_up(1.0) == 1
    assert Scale(1, 0.01).write(1.0) == "1.000"
    assert Scale(1, 0.9).write(1.234) == "1.23"
    assert percent(1.0) == "> 99.9 %"
    assert percent(0.534) == "53.4 %"
    assert percent(0.0) == "< 0.1 %"
    assert short("great white shark, white shark", 40) == "great white shark"
    assert short("layer1.0.something.very.long", 10) == "layer1.0.…"
