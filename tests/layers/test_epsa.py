import numpy as np
import pytest
import torch
from scipy.special import expit

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .conv_numpy import CLOSE, a_map, average, convolve, softmax, trained, weights

C = 64
FORMS = [
    ({}, (3, 5, 7, 9), (1, 4, 8, 16)),
    ({"order": "forward", "stride": 2}, (3, 5, 7, 9), (1, 4, 8, 16)),
    ({"kernels": (1, 3), "groups": (8, 2), "reduction": 4}, (1, 3), (8, 2)),
]


@pytest.mark.parametrize(("options", "kernels", "groups"), FORMS, ids=str)
def test_formula(options, kernels, groups):
    attention = trained(ww.EPSA(C, **options))
    x, w = a_map((3, C, 7, 6)), weights(attention)
    part = C // len(kernels)
    assert w["se.fc1.weight"].shape == (max(1, part // options.get("reduction", 16)), part, 1, 1)
    u, scores = [], []
    for i, (kernel, number) in enumerate(zip(kernels, groups, strict=True), 1):
        assert w[f"conv_{i}.weight"].shape == (part, C // number, kernel, kernel)
        u.append(convolve(x.numpy(), w, f"conv_{i}", options.get("stride", 1), groups=number))
        hidden = np.maximum(convolve(average(u[-1]), w, "se.fc1"), 0)
        scores.append(expit(convolve(hidden, w, "se.fc2")))
    a = softmax(np.stack(scores), 0)
    order = range(len(u)) if options.get("order") == "forward" else reversed(range(len(u)))
    want = np.concatenate([a[i] * u[i] for i in order], 1)
    np.testing.assert_allclose(attention(x).detach(), want, **CLOSE)
    np.testing.assert_allclose(attention.train()(x).detach(), want, **CLOSE)


def test_what_the_docstring_says_of_the_softmax():
    least, most = softmax(np.array([0.0, 1, 1, 1]), 0)[0], softmax(np.array([1.0, 0, 0, 0]), 0)[0]
    assert (round(least, 3), round(most, 3)) == (0.109, 0.475)


@pytest.mark.parametrize(
    ("channels", "groups", "hidden"),
    [
        (4, (1, 1, 1, 1), 1),
        (20, (1, 1, 5, 5), 1),
        (48, (1, 4, 6, 12), 1),
        (64, (1, 4, 8, 16), 1),
        (256, (1, 4, 8, 16), 4),
    ],
)
def test_groups_and_hidden_width_fit_every_width(channels, groups, hidden):
    attention = ww.EPSA(channels)
    assert attention.groups == tuple(conv.groups for conv in attention.convolutions()) == groups
    assert attention.se["fc1"].out_channels == hidden
    assert attention(torch.rand(2, channels, 4, 4)).shape == (2, channels, 4, 4)


def test_start():
    torch.manual_seed(0)
    attention = ww.EPSA(256)
    assert attention.conv_2.bias is None
    assert attention.conv_2.weight.std().item() == pytest.approx((2 / (25 * 64)) ** 0.5, rel=0.05)
    assert attention.se["fc1"].weight.std().item() == pytest.approx(0.5**0.5, rel=0.15)
    assert 0 < attention.se["fc1"].bias.abs().max() <= 0.125


def test_official_names_load():
    source = trained(ww.EPSA(C, kernels=(1, 3, 3, 5), groups=(2, 2, 2, 2)))
    tensors = {f"module.layer1.0.conv2.{name}": tensor for name, tensor in source.state_dict().items()}
    assert {name.removeprefix("module.layer1.0.conv2.") for name in tensors} == {
        *(f"conv_{i}.weight" for i in (1, 2, 3, 4)),
        *(f"se.fc{i}.{leaf}" for i in (1, 2) for leaf in ("weight", "bias")),
    }
    found = ww.EPSA.options_from_shapes({k: tuple(v.shape) for k, v in source.state_dict().items()})
    assert found == {"kernels": (1, 3, 3, 5), "groups": (2, 2, 2, 2)}
    x = a_map((2, C, 5, 6))
    torch.testing.assert_close(ww.EPSA(C, **found).double().eval().load_official(tensors)(x), source(x))


@pytest.mark.parametrize(
    ("channels", "options", "message"),
    [
        (62, {}, "channels must be a multiple of 4 .as many equal parts as kernels., got 62: take 60 or 64"),
        (64, {"kernels": (3,)}, "two to eight"),
        (64, {"kernels": (3, 5, 6, 7)}, "kernels must be odd"),
        (64, {"groups": (1, 2)}, "groups must be as many as kernels, got 2 and 4"),
        (64, {"groups": (1, 2, 3, 4)}, "multiple of 3 .groups., got 16: take 15 or 18"),
        (64, {"order": "reverse"}, "unknown order 'reverse'.*reversed"),
        (64, {"reduction": 0}, "reduction must be"),
    ],
    ids=str,
)
def test_wrong_options_raise(channels, options, message):
    with pytest.raises(WhatwhereError, match=message):
        ww.EPSA(channels, **options)
