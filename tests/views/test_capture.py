import copy
import pickle

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.errors import WhatwhereError
from whatwhere.layers import Attention, GatedAttention, entry
from whatwhere.views import attended, capture


class Block(nn.Module):
    def __init__(self, channels=8, attention="cbam"):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.late = ww.create(attention, channels)
        self.early = ww.create("se", channels)

    def forward(self, x):
        return x + self.late(self.bn(self.conv(self.early(x))))


def net(attention="cbam"):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Block(attention=attention), nn.MaxPool2d(2), ww.SE(8)).eval()


def everything(model):
    """All that capture might leave behind: instance attributes, hooks, modes."""
    return {
        name: (
            sorted(vars(m)),
            m.training,
            [len(hooks) for key, hooks in sorted(vars(m).items()) if key.endswith("_hooks") and hooks is not None],
            vars(m).get("forward"),
            vars(m).get("_compiled_call_impl"),
        )
        for name, m in model.named_modules()
    }


@pytest.mark.parametrize("name", [name for name in ww.names() if entry(name).gated])
def test_gates_are_what_the_attention_computes(name):
    attention = ww.create(name, 8).eval()
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), attention)
    x = torch.randn(2, 3, 9, 9)
    with capture(model) as seen:
        model(x)
    expected = attention.gates(model[0](x))
    assert list(seen) == ["1"]
    for kind, gate in expected._asdict().items():
        got = getattr(seen["1"], kind)
        assert (got is None) == (gate is None)
        if gate is not None:
            assert torch.equal(got, gate)
            assert not got.requires_grad
    assert seen.sizes["1"] == (7, 7)


def test_order_is_that_of_execution_and_parts_are_not_listed():
    model = net()
    with capture(model) as seen:
        assert len(seen) == 0
        model(torch.randn(1, 3, 8, 8))
        assert list(seen) == ["1.early", "1.late", "3"]
        assert list(seen.attentions) == ["1.late", "1.early", "3"]
        assert seen.sizes == {"1.early": (8, 8), "1.late": (8, 8), "3": (4, 4)}
    assert "1.late.channel" not in seen


def test_inserted_attention_is_named_by_its_place():
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.resnet18().eval()
    ww.insert(model, "cbam")
    with capture(model) as seen:
        model(torch.randn(1, 3, 32, 32))
    assert list(seen) == [f"layer{s}.{b}.bn2" for s in range(1, 5) for b in range(2)]
    assert list(ww.attentions(model)) == list(seen.attentions) == list(seen)
    assert all((gate == 1).all() for gates in seen.values() for gate in gates if gate is not None)


def test_each_forward_replaces_the_one_before():
    model = net()
    a, b = torch.randn(1, 3, 8, 8), torch.randn(3, 3, 6, 6)
    with capture(model) as seen:
        model(a)
        model(b)
        twice = seen["3"].channel
    with capture(model) as seen:
        model(b)
    assert torch.equal(seen["3"].channel, twice)
    assert len(twice) == 3


def test_a_pass_that_skips_an_attention_does_not_keep_its_old_gates():
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = ww.SE(4), ww.SE(4)

        def forward(self, x):
            return self.a(x) if x.shape[0] > 1 else self.b(self.a(x))

    model = Sometimes()
    with capture(model) as seen:
        model(torch.randn(1, 4, 3, 3))
        assert list(seen) == ["a", "b"]
        model(torch.randn(2, 4, 3, 3))
        assert list(seen) == ["a"]
        with pytest.raises(KeyError, match="has not run"):
            seen["b"]
        with pytest.raises(KeyError, match="no attention at 'c'"):
            seen["c"]


def test_gates_stay_readable_after_the_block_and_are_not_heard_of_any_more():
    model = net()
    with capture(model) as seen:
        model(torch.zeros(1, 3, 8, 8))
    before = seen["3"].channel.clone()
    model(torch.randn(1, 3, 8, 8))
    assert torch.equal(seen["3"].channel, before)
    assert "3 of 3 attentions have run" in repr(seen)


@pytest.mark.parametrize("training", [False, True])
def test_everything_is_as_before(training):
    model = net().train(training)
    before = everything(model)
    with capture(model):
        model(torch.randn(2, 3, 8, 8))
        assert model.training is training
    assert everything(model) == before


def test_everything_is_as_before_after_an_error():
    model = net()
    before = everything(model)
    with pytest.raises(RuntimeError), capture(model):
        model(torch.randn(1, 5, 8, 8))
    assert everything(model) == before


def test_nested_blocks_both_hear_and_both_let_go():
    model = net()
    before = everything(model)
    x = torch.randn(1, 3, 8, 8)
    with capture(model) as outer:
        with capture(model[1]) as inner:
            model(x)
        assert list(inner) == ["early", "late"]
        assert torch.equal(inner["late"].spatial, outer["1.late"].spatial)
        model(x + 1)
        assert not torch.equal(inner["late"].channel, outer["1.late"].channel)
    assert everything(model) == before


def test_output_and_gradient_are_unchanged():
    model = net().train()
    x = torch.randn(2, 3, 8, 8)
    twin = copy.deepcopy(model)
    expected = twin(x)
    expected.sum().backward()
    with capture(model):
        y = model(x)
        y.sum().backward()
    assert torch.equal(y, expected)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


def test_bare_attention_has_the_empty_place():
    attention = ww.CBAM(8)
    with capture(attention) as seen:
        attention(torch.randn(1, 8, 5, 5))
    assert list(seen) == [""]


def test_copies_and_unpickled_models():
    x = torch.randn(1, 3, 8, 8)
    model = net()
    with capture(model) as seen:
        model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with capture(other) as again:
            other(x)
        assert list(again) == list(seen)
        assert torch.equal(again["1.late"].channel, seen["1.late"].channel)


def test_compiled_model_is_listened_to_and_stays_compiled():
    model, x = net(), torch.randn(1, 3, 8, 8)
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    before = everything(compiled)
    with capture(compiled) as seen:
        y = compiled(x)
    assert list(seen) == ["1.early", "1.late", "3"]
    assert torch.equal(y, model(x))
    assert everything(compiled) == before

    model.compile(backend="eager")
    implementation = model._compiled_call_impl
    with capture(model) as seen:
        model(x)
    assert len(seen) == 3
    assert model._compiled_call_impl is implementation


def test_compiled_part_of_a_model():
    model = net()
    model[1] = torch.compile(model[1], backend="eager")
    with capture(model) as seen:
        model(torch.randn(1, 3, 8, 8))
    assert list(seen) == ["1.early", "1.late", "3"]


def test_errors_say_what_to_do():
    with pytest.raises(WhatwhereError, match="insert"), capture(nn.Conv2d(3, 3, 1)):
        pass
    with pytest.raises(WhatwhereError, match="DataParallel"), capture(nn.DataParallel(net())):
        pass
    with (
        pytest.raises(WhatwhereError, match=r"torch\.nn\.Module is needed, got the word 'resnet18'"),
        capture("resnet18"),
    ):
        pass


def test_an_attention_of_the_users_own():
    class Half(GatedAttention):
        def gates(self, x):
            return ww.Gates(spatial=torch.full_like(x[:, :1], 0.5))

    with capture(nn.Sequential(Half(2))) as seen:
        Half(2)(torch.ones(1, 2, 3, 3))
        assert not seen


class Shift(Attention):
    """An attention that adds to the map, so it has no gates."""

    gates = None

    def forward(self, x):
        return x + x.mean((2, 3), keepdim=True)


def test_attentions_without_gates_are_left_out():
    model = nn.Sequential(Shift(4), ww.SE(4))
    x = torch.randn(1, 4, 5, 5)
    expected = model(x)
    with capture(model) as seen:
        assert torch.equal(model(x), expected)
    assert list(seen) == list(seen.attentions) == list(attended(model)) == ["1"]
    with pytest.raises(KeyError, match="no attention at '0' that has gates; one is at '1'"):
        seen["0"]


def test_a_model_whose_attentions_all_have_no_gates():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Shift(4))
    assert attended(model) == {}
    with (
        pytest.raises(WhatwhereError, match=r"no attention of Sequential has gates .*Shift at '1'.* Grad-CAM"),
        capture(model),
    ):
        pass
