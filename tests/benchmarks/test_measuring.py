import pytest
import torch
from torch import nn

from benchmarks.checking import Check, WrongResult, build_calls, compiled, forget_compiled
from benchmarks.contenders import Contender, layer_contenders
from benchmarks.layer_calls import MEASURES, Map, expected_results, layer_call
from benchmarks.memory import saved_bytes
from whatwhere.cost import measure_in_turn

CPU = torch.device("cpu")


def a_map(layout="nchw", dtype=torch.float32):
    return Map(2, 32, 9, 7, layout, dtype, CPU)


# checking


def test_one_that_cannot_be_built_is_reported():
    def build():
        raise RuntimeError("no")

    calls, failed = build_calls({"a": build, "b": lambda: print})
    assert list(calls) == ["b"]
    assert failed["a"].failure == "raised RuntimeError: no"


def test_wrong_numbers_are_not_timed():
    right, wrong = torch.ones(4), torch.ones(4) + 0.1
    check = Check({"right": right, "wrong": right})
    found = measure_in_turn({"right": lambda: right, "wrong": lambda: wrong}, CPU, 0.0, inspect=check)
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
