"""Ghost modules: as many maps as asked for, the gates of GhostNetV2, wrong numbers."""

import pytest
import torch

import whatwhere as ww
from whatwhere.layers.ghost import DFCGhostModule, GhostModule

from .test_peers import random_parameters


@pytest.mark.parametrize("ratio", [1, 2, 3, 4])
@pytest.mark.parametrize("outputs", [4, 7, 12])
def test_a_module_has_as_many_maps_as_asked_for(ratio, outputs):
    module = GhostModule(6, outputs, kernel_size=3, ratio=ratio, stride=2)
    assert module(torch.randn(2, 6, 9, 8)).shape == (2, outputs, 5, 4)


@pytest.mark.parametrize(("kernel_size", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_dfc_equals_timms_in_float64(kernel_size, stride):
    timm = pytest.importorskip("timm.models.ghostnet")
    theirs = random_parameters(timm.GhostModuleV2(6, 9, kernel_size, stride=stride)).double()
    ours = DFCGhostModule(6, 9, kernel_size, stride).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 6, 9, 12, dtype=torch.float64)
    for training in (False, True):
        torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x), rtol=1e-12, atol=1e-12)
    for (key, got), (their_key, want) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12, msg=key)
        assert key == their_key


def test_the_attention_alone_has_the_gates_of_the_module():
    """Maps of the plain ghost module, times the gates of the attention that takes over ``short_conv``."""
    module = random_parameters(DFCGhostModule(8, 8))
    attention = ww.DFC(8).eval().load_official(module.short_conv.state_dict(prefix="ghost1.short_conv."))
    x = torch.randn(2, 8, 7, 10)
    maps = GhostModule.forward(module, x)
    torch.testing.assert_close(module(x), maps * attention.gates(x).full, rtol=0, atol=0)


@pytest.mark.parametrize("sides", [(5, 3), (1, 4), (1, 1)], ids=str)
def test_dfc_on_odd_sides_and_sides_of_1(sides):
    module = DFCGhostModule(4, 6)
    assert module(torch.randn(2, 4, *sides)).shape == (2, 6, *sides)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GhostModule(8, 4, ratio=5), "ratio=5 is more than the 4 output maps"),
        (lambda: GhostModule(8, 4, ratio=0), "ratio must be a whole number of at least 1, got 0"),
        (lambda: GhostModule(8, 4, cheap_kernel_size=2), "cheap_kernel_size must be odd"),
        (lambda: GhostModule(8, True), "outputs must be a whole number of at least 1, got True"),
        (lambda: DFCGhostModule(8, 4, stride=0), "stride must be a whole number of at least 1, got 0"),
    ],
)
def test_mistakes(make, says):
    with pytest.raises(ww.WhatwhereError, match=says):
        make()
