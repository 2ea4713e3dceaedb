"""What a layer and a function of a network are given is checked, with what to do about it."""

import copy

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import whatwhere as ww
from whatwhere.layers import entry

X = torch.randn(2, 16, 8, 8)
WRONG = {
    "8 channels": (X[:, :8], r"takes maps \(N, 16, H, W\), got float32 \(2, 8, 8, 8\): make it for 8 channels"),
    "one map": (X[0], r"got float32 \(16, 8, 8\): x\[None\] makes a batch"),
    "tokens": (X.flatten(2), "3 axes, where 4 are needed"),
    "channels last": (X.permute(0, 2, 3, 1), r"channels come last there: give it x.permute\(0, 3, 1, 2\)"),
    "bytes": (X.to(torch.int8), r"got int8 .*floating-point ones, such as x.float\(\)"),
    "complex": (X.to(torch.complex64), "got complex64 .*must be floating-point ones$"),
    "numpy": (np.zeros((2, 16, 8, 8), np.float32), r"got numpy.ndarray: take torch.as_tensor\(...\) of it"),
    "list": ([X], "got list: give it one tensor"),
    "None": (None, "got NoneType"),
}


@pytest.mark.parametrize("name", ww.names())
@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_what_is_no_map_of_the_layer(name, wrong):
    x, says = WRONG[wrong]
    attention = ww.create(name, 16)
    methods = [attention, attention.gates] if entry(name).gated else [attention]
    for method in methods:
        with pytest.raises(ww.WhatwhereError, match=says):
            method(x)


def test_an_argument_that_is_missing_is_pythons_error():
    for method in (ww.ECA(16), ww.ECA(16).gates):
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
            method()
    assert torch.equal(ww.ECA(16, identity=True)(x=X), X)


def test_a_class_with_more_arguments_is_checked_too():
    class Weighed(ww.Attention):
        def forward(self, image, weight=1.0):
            return weight * image

    layer = Weighed(16)
    assert torch.equal(layer(X, 2.0), layer(image=X, weight=2.0))
    for call in (lambda: layer(X[:, :8], 2.0), lambda: layer(image=X[:, :8])):
        with pytest.raises(ww.WhatwhereError, match="takes maps"):
            call()
    with pytest.raises(TypeError, match="missing"):
        layer()


def test_what_stands_for_a_map_passes():
    class Twice(ww.Attention):
        def forward(self, x):
            return 2 * x

    layer = Twice(16)
    traced = torch.fx.symbolic_trace(layer)
    assert torch.equal(traced(X), 2 * X)
    assert layer(torch.empty(2, 16, 8, 8, device="meta")).shape == X.shape
    with FakeTensorMode() as mode:
        assert layer(mode.from_tensor(X)).shape == X.shape
        with pytest.raises(ww.WhatwhereError, match="takes maps"):
            layer(mode.from_tensor(X)[:, :8])
    assert torch.equal(torch.func.vmap(layer)(X[None]), 2 * X[None])
    sizes = ({0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")},)
    program = torch.export.export(layer, (X,), dynamic_shapes=sizes)
    assert torch.equal(program.module()(X[:1, :, :5]), 2 * X[:1, :, :5])
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="eager")(X), 2 * X)


def test_the_checks_stay_in_copies_and_subclasses():
    class More(ww.SE):
        def forward(self, x):
            return super().forward(x) + 1

    for layer in (More(16), copy.deepcopy(More(16))):
        assert layer(X).shape == X.shape
        with pytest.raises(ww.WhatwhereError, match="More takes maps"):
            layer(X[0])


MODELS = {
    "function": (
        torchvision.models.resnet18,
        r"the function resnet18: if it makes the network, call it, resnet18\(...\)",
    ),
    "class": (torchvision.models.ResNet, r"the class ResNet: make one, ResNet\(...\)"),
    "word": ("resnet18", "the word 'resnet18': build that network first"),
    "weights": (nn.Linear(1, 1).state_dict(), "load these weights into it"),
    "number": (3, "got int"),
}
CALLS = {
    "insert": lambda m: ww.insert(m, "se"),
    "remove": ww.remove,
    "replace": lambda m: ww.replace(m, "se", "cbam"),
    "sites": ww.sites,
    "attentions": ww.attentions,
    "fuse": ww.fuse,
    "unfuse": ww.unfuse,
    "ghostify": ww.ghostify,
    "unghostify": ww.unghostify,
    "look": lambda m: ww.look(m, X[0, :3]),
    "capture": lambda m: ww.capture(m).__enter__(),
    "redundancy": lambda m: ww.redundancy(m, X[:, :3]),
    "fold": lambda m: ww.fold(m, X[:, :3]),
    "export": lambda m: ww.export(m, "m.pt2"),
    "save": lambda m: ww.save(m, "m.safetensors"),
    "load": lambda m: ww.load(m, "m.safetensors"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("model", MODELS)
def test_what_is_no_network(call, model):
    came, says = MODELS[model]
    with pytest.raises(ww.WhatwhereError, match=says):
        CALLS[call](came)
