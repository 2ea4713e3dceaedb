import gc

import pytest
import torch
from torch import nn

from benchmarks.checking import Check, WrongResult, compiled, forget_compiled
from benchmarks.contenders import Contender, layer_contenders
from benchmarks.layer_calls import MEASURES, Map, expected_results, layer_call
from benchmarks.memory import saved_bytes
from benchmarks.timing import Timing, build_calls, time_in_turn

CPU = torch.device("cpu")


def a_map(layout="nchw", dtype=torch.float32):
    return Map(2, 32, 9, 7, layout, dtype, CPU)


# timing


def test_contenders_take_turns_in_the_order_given():
    turns = []
    calls = {name: lambda name=name: turns.append(name) for name in "bca"}
    found = time_in_turn(calls, 0.0, CPU, rounds=4, block=0.0)
    each = len(turns) // 3 - 4  # calls of each before the rounds
    assert "".join(turns) == "b" * each + "c" * each + "a" * each + "bca" * 4
    assert {len(t.samples) for t in found.values()} == {4}
    assert {t.calls for t in found.values()} == {1}


def test_short_calls_fill_a_block_after_one_that_does_not_count():
    turns = []
    found = time_in_turn(
        {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, 0.0, CPU, rounds=1, block=1e-3
    )
    assert found["a"].calls > 1
    last = "".join(turns)[-(found["a"].calls + found["b"].calls + 2) :]
    assert last == "a" * (found["a"].calls + 1) + "b" * (found["b"].calls + 1)


def test_rounds_go_on_until_the_time_is_spent():
    found = time_in_turn({"a": lambda: None}, 0.05, CPU, rounds=2, block=0.0)
    assert len(found["a"].samples) > 2


def test_median_and_half_the_interquartile_range():
    timing = Timing(samples=[5.0, 1.0, 2.0, 3.0, 4.0])
    assert timing.median == 3.0
    assert timing.spread == pytest.approx(100 * (4 - 2) / 2 / 3)


def test_one_that_fails_is_out_and_the_others_go_on():
    count = []

    def breaks_later():
        count.append(1)
        if len(count) > 4:
            raise ValueError("no more\nand so on")

    def breaks():
        raise KeyError("x")

    found = time_in_turn({"a": breaks, "b": breaks_later, "c": lambda: None}, 0.0, CPU, rounds=5, block=0.0)
    assert found["a"].failure == "raised KeyError: 'x'"
    assert found["b"].failure == "raised ValueError: no more"
    assert found["b"].samples == []
    assert found["c"].failure is None
    assert len(found["c"].samples) == 5
    assert gc.isenabled()


def test_one_that_cannot_be_built_is_reported():
    def build():
        raise RuntimeError("no")

    calls, failed = build_calls({"a": build, "b": lambda: print})
    assert list(calls) == ["b"]
    assert failed["a"].failure == "raised RuntimeError: no"


# checking


def test_wrong_numbers_are_not_timed():
    right, wrong = torch.ones(4), torch.ones(4) + 0.1
    check = Check({"right": right, "wrong": right})
    found = time_in_turn({"right": lambda: right, "wrong": lambda: wrong}, 0.0, CPU, inspect=check)
    assert found["right"].failure is None
    assert "WrongResult" in found["wrong"].failure
    assert check.errors["wrong"] == pytest.approx(0.1, rel=1e-4)
    with pytest.raises(WrongResult):
        check("right", torch.full((4,), float("nan")))


@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("measure", MEASURES)
def test_all_eager_layers_compute_the_same_and_their_gates_move(layout, measure):
    what = a_map(layout)
    x, g = what.draw(0), what.draw(1)
    eager = [c for c in layer_contenders().values() if not c.compile]
    expected = expected_results(what, measure, eager, x, g)
    assert set(expected) == {c.name for c in eager}
    check = Check(expected)
    for contender in eager:
        check(contender.name, layer_call(contender, what, measure, x, g)())
    assert set(check.errors) == set(expected)
    if measure == "forward":
        for kind in ("cbam", "se"):
            ratio = expected[f"ours-{kind}"] / x
            assert ratio.std() > 0.02


def test_gradients_do_not_pile_up():
    what = a_map()
    call = layer_call(Contender("cbam"), what, "forward+backward", what.draw(0), what.draw(1))
    first = call().clone()
    assert torch.equal(call(), first)


@pytest.mark.slow
def test_compiled_code_of_one_network_is_not_taken_for_another():
    """Dynamo does not look at hooks: without own code objects, the second would run what was compiled for the first."""
    forget_compiled()
    plain = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()).eval()
    other = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()).eval()
    other.load_state_dict(plain.state_dict())
    other[0].register_forward_hook(lambda module, args, output: -output)
    x = torch.randn(1, 4, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(compiled(plain)(x), plain(x))
        torch.testing.assert_close(compiled(other)(x), other(x))
    assert not torch.allclose(plain(x), other(x))


# saved bytes


class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("scale", torch.ones(channels, 1, 1))


def test_saved_bytes_of_modules_made_by_hand():
    gate = Gate(6)
    x = torch.randn(2, 6, 5, 4, requires_grad=True)
    map_bytes, gate_bytes = 2 * 6 * 5 * 4 * 4, 6 * 4
    forwards = {
        (lambda: x + gate.w): 0,
        (lambda: x * gate.w): map_bytes,  # the map; the parameter is there anyway
        (lambda: x * gate.scale): 0,  # the buffer too, and it needs no gradient
        (lambda: x * torch.sigmoid(gate.w)): map_bytes
        + gate_bytes,  # the sigmoid's result, for itself and for the product: once
        (lambda: x * x): map_bytes,  # twice the same
        (lambda: x[:, :1] * x.flatten(1)[:, :1, None, None]): map_bytes,  # views of one storage
        (lambda: torch.sigmoid(x) * gate.w): map_bytes,
        (lambda: x * torch.sigmoid(x)): 2 * map_bytes,
    }
    for forward, wanted in forwards.items():
        assert saved_bytes(forward, gate) == wanted


def test_saved_bytes_see_what_a_function_saves():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x, x.half())
            return 2 * x

        @staticmethod
        def backward(ctx, g):
            return 2 * g

    x = torch.randn(3, 8, requires_grad=True)
    assert saved_bytes(lambda: Twice.apply(x), nn.Identity()) == 3 * 8 * (4 + 2)
