import sys

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.errors import MissingExtra, WhatwhereError
from whatwhere.views import grad_cam

pytest.importorskip("pytorch_grad_cam")


class Net(nn.Module):
    """One ReLU called twice, in place, the second time on the last map."""

    def __init__(self, inplace=True, width=6):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(width, 5)

    def forward(self, x):
        x = self.relu(self.conv1(x))
        return self.fc(self.drop(self.relu(self.bn2(self.conv2(x))).mean((2, 3))))


def by_hand(model, x, targets):
    """Grad-CAM on ``bn2`` of a Net in evaluation mode, from its formula."""
    before = model.bn2(model.conv2(model.conv1(x).relu())).detach().requires_grad_()
    score = model.fc(before.relu().mean((2, 3)))[torch.arange(len(x)), targets].sum()
    (gradient,) = torch.autograd.grad(score, before)
    return (gradient.mean((2, 3), keepdim=True) * before).sum(1).relu().detach()


@pytest.fixture
def model():
    torch.manual_seed(1)
    made = Net().eval()
    nn.init.normal_(made.bn2.bias)
    nn.init.uniform_(made.fc.weight, -0.1, 1)  # so that some place speaks for every class
    return made


def test_equals_the_formula_although_a_relu_in_place_follows(model):
    x, targets = torch.randn(3, 3, 16, 16), torch.tensor([4, 0, 2])
    maps = grad_cam(model, x, targets)
    assert maps.shape == (3, 16, 16)
    assert maps.dtype == torch.float32
    coarse = by_hand(model, x, targets)
    assert (coarse.amax((1, 2)) > 0).all()
    for fine, expected in zip(maps, coarse, strict=True):
        assert fine.min() == 0
        assert fine.max() == pytest.approx(1, abs=1e-4)
        small = torch.nn.functional.interpolate(expected[None, None], (16, 16), mode="bilinear")[0, 0]
        small = small - small.min()
        torch.testing.assert_close(fine, small / small.max(), atol=2e-3, rtol=0)


def test_default_target_is_the_prediction(model):
    x = torch.randn(4, 3, 16, 16)
    assert torch.equal(grad_cam(model, x), grad_cam(model, x, model(x).argmax(1)))
    assert torch.equal(grad_cam(model, x, [1, 2, 3, 0]), grad_cam(model, x, torch.tensor([1, 2, 3, 0])))


def test_default_layer_is_the_last_map_called_once(model):
    x = torch.randn(1, 3, 16, 16)
    assert torch.equal(grad_cam(model, x), grad_cam(model, x, layer="bn2"))
    assert torch.equal(grad_cam(model, x), grad_cam(model, x, layer=model.bn2))
    assert not torch.equal(grad_cam(model, x), grad_cam(model, x, layer="conv2"))


def test_a_map_with_one_place_is_not_taken():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 5, 1), nn.Flatten())
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(grad_cam(model, x), grad_cam(model, x, layer="0"))


@pytest.mark.parametrize("attention", ["cbam", "bam"])
def test_inserted_attention_is_part_of_its_host(model, attention):
    x = torch.randn(2, 3, 16, 16)
    plain = grad_cam(model, x, [0, 1])
    model.bn2.add_module("attention", ww.create(attention, 6, identity=True).eval())
    model.bn2.register_forward_hook(lambda module, _args, out: module.attention(out))
    torch.testing.assert_close(grad_cam(model, x, [0, 1]), plain)
    for parameter in model.bn2.attention.parameters():
        nn.init.normal_(parameter)
    assert torch.equal(grad_cam(model, x, [0, 1]), grad_cam(model, x, [0, 1], layer="bn2"))
    assert not torch.allclose(grad_cam(model, x, [0, 1]), plain, atol=1e-3)


def test_inserted_by_insert():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model, x = torchvision.models.resnet18(), torch.randn(1, 3, 64, 64)
    plain = grad_cam(model, x, layer="layer4")
    ww.insert(model, "cbam")
    torch.testing.assert_close(grad_cam(model, x), plain, atol=1e-4, rtol=0)


def state(model):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()]
    flags = [(p.requires_grad, p.grad) for p in model.parameters()]
    return [m.training for m in model.modules()], hooks, flags, [sorted(vars(m)) for m in model.modules()]


def mixed(model):
    """A model in the middle of training: some parts frozen, gradients there, modes that differ."""
    model.train()
    model.bn2.eval()
    model.conv1.weight.requires_grad_(False)
    for parameter in model.conv2.parameters():
        parameter.grad = torch.ones_like(parameter)
    return model


def same(before, after):
    grads = [(a[1] is b[1]) for a, b in zip(before[2], after[2], strict=True)]
    return before[0] == after[0] and before[1] == after[1] and before[3] == after[3] and all(grads)


def test_everything_is_as_before(model):
    before = state(mixed(model))
    buffers = [b.clone() for b in model.buffers()]
    weights = [p.clone() for p in model.parameters()]
    grad_cam(model, torch.randn(2, 3, 16, 16))
    assert same(before, state(model))
    assert [f for f, _ in before[2]] == [f for f, _ in state(model)[2]]
    assert all(map(torch.equal, buffers, model.buffers()))
    assert all(map(torch.equal, weights, model.parameters()))
    assert (model.conv2.weight.grad == 1).all()


@pytest.mark.parametrize("wrong", [{"targets": [9, 0]}, {"targets": [1]}, {"layer": "nowhere"}, {"layer": "relu"}])
def test_everything_is_as_before_after_an_error(model, wrong):
    before = state(mixed(model))
    with pytest.raises(WhatwhereError):
        grad_cam(model, torch.randn(2, 3, 16, 16), **wrong)
    assert same(before, state(model))


def test_without_gradients_around_and_with_frozen_parameters(model):
    x = torch.randn(2, 3, 16, 16)
    expected = grad_cam(model, x)
    model.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(grad_cam(model, x), expected)
    with torch.inference_mode():
        assert torch.equal(grad_cam(model, x.clone()), expected)


def test_bfloat16(model):
    x = torch.randn(2, 3, 16, 16)
    expected = grad_cam(model, x, [0, 1])
    assert (grad_cam(model.bfloat16(), x, [0, 1]) - expected).abs().mean() < 0.05


def test_compiled_model(model):
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(grad_cam(torch.compile(model, backend="eager"), x), grad_cam(model, x))


def test_errors(model, monkeypatch):
    x = torch.randn(1, 3, 16, 16)
    with pytest.raises(WhatwhereError, match=r"conv3.*did you mean 'conv"):
        grad_cam(model, x, layer="conv3")
    with pytest.raises(WhatwhereError, match="normalised images"):
        grad_cam(model, x[0])
    with pytest.raises(WhatwhereError, match="normalised images"):
        grad_cam(model, torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(WhatwhereError, match="from 0 to 4"):
        grad_cam(model, x, [5])
    with pytest.raises(WhatwhereError, match="classifier"):
        grad_cam(nn.Sequential(nn.Conv2d(3, 3, 1)), x)
    with pytest.raises(WhatwhereError, match="no layer"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), x)
    with pytest.raises(WhatwhereError, match="no parameters"):
        grad_cam(nn.Sequential(nn.Flatten()), x)
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(MissingExtra, match=r"whatwhere\[look\]"):
        grad_cam(model, x)
