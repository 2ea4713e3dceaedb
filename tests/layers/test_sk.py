import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .conv_numpy import CLOSE, Norms, a_map, average, convolve, softmax, trained, weights

C = 48
FORMS = [
    ({}, [(3, 1), (3, 2)], 24),
    ({"stride": 2, "groups": 16}, [(3, 1), (3, 2)], 16),
    ({"kernels": (3, 5, 7), "dilated": False, "hidden": 10, "groups": 1}, [(3, 1), (5, 1), (7, 1)], 1),
    ({"kernels": (7, 3)}, [(3, 3), (3, 1)], 24),
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("options", "kernels", "groups"), FORMS, ids=str)
def test_formula(options, kernels, groups, training):
    attention = trained(ww.SelectiveKernel(C, **options)).train(training)
    x, w = a_map((4, C, 6, 7)), weights(attention)
    norm = Norms(w, training, momentum=0.05)
    u = []
    for i, (size, dilation) in enumerate(kernels):
        assert w[f"paths.{i}.conv.weight"].shape == (C, C // groups, size, size)
        z = convolve(x.numpy(), w, f"paths.{i}.conv", options.get("stride", 1), dilation, groups)
        u.append(np.maximum(norm(z, f"paths.{i}.bn"), 0))
    z = np.maximum(norm(convolve(average(sum(u)), w, "attn.fc_reduce"), "attn.bn"), 0)
    assert z.shape[1] == options.get("hidden", 32)
    a = softmax(convolve(z, w, "attn.fc_select").reshape(4, len(u), C, 1, 1), 1)
    want = sum(a[:, i] * u[i] for i in range(len(u)))
    np.testing.assert_allclose(attention(x).detach(), want, **CLOSE)
    norm.check(attention)


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (7, 7), (20, 20), (33, 11), (64, 32), (96, 32), (100, 25)])
def test_groups_fit_every_width(channels, groups):
    attention = ww.SelectiveKernel(channels)
    assert {path.conv.groups for path in attention.paths} == {groups}
    assert attention(torch.rand(2, channels, 5, 5)).shape == (2, channels, 5, 5)


@pytest.mark.parametrize(("options", "hidden"), [({}, 32), ({"reduction": 8}, 128), ({"hidden": 5}, 5)], ids=str)
def test_hidden_width(options, hidden):
    assert ww.SelectiveKernel(512 if not options else 1024, **options).attn.fc_reduce.out_channels == hidden


def test_start():
    torch.manual_seed(0)
    attention = ww.SelectiveKernel(512).eval()
    for layer in (attention.attn.fc_reduce, attention.attn.fc_select):
        assert layer.bias is None
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert attention.paths[1].conv.weight.std().item() == pytest.approx((2 / (9 * 16)) ** 0.5, rel=0.05)
    x = torch.randn(2, 512, 6, 6)
    mean = sum(path(x).relu() for path in attention.paths) / 2
    torch.testing.assert_close(attention(x), mean, rtol=0.05, atol=0.01)
    assert {m.momentum for m in attention.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.05}


def test_one_image_in_training_takes_the_running_statistics_of_the_squeezed_map():
    attention = trained(ww.SelectiveKernel(8)).train()
    x = a_map((1, 8, 5, 5))
    before = attention.attn.bn.running_mean.clone()
    got = attention(x)
    assert attention.attn.bn.running_mean.equal(before)
    attention.attn.eval()
    torch.testing.assert_close(got, attention(x))


@pytest.mark.parametrize("options", [{}, {"groups": 16}, {"kernels": (3, 5, 7), "dilated": False}], ids=str)
def test_timms_names_load(options):
    layers = pytest.importorskip("timm.layers")
    settings = {"groups": options.get("groups", 32), "rd_channels": 32, "split_input": False}
    if "kernels" in options:
        settings |= {"kernel_size": list(options["kernels"]), "keep_3x3": False}
    theirs = trained(layers.SelectiveKernel(64, **settings))
    tensors = {f"layer1.0.conv2.{name}": tensor for name, tensor in theirs.state_dict().items()}
    ours = ww.SelectiveKernel(64, **options).double().eval().load_official(tensors)
    x = a_map((2, 64, 5, 6))
    torch.testing.assert_close(ours(x), theirs(x))
    found = ww.SelectiveKernel.options_from_shapes({k: tuple(v.shape) for k, v in theirs.state_dict().items()})
    assert found == {"hidden": 32, "groups": settings["groups"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 5}, "channels must be a multiple of 5 .groups., got 48: take 45 or 50"),
        ({"groups": 0}, "groups must be a whole number"),
        ({"kernels": (3,)}, "two to eight"),
        ({"kernels": (3, 4)}, "kernels must be odd.*take 3 or 5"),
        ({"kernels": (1, 3)}, "3 and more"),
        ({"dilated": 1}, "dilated must be True or False"),
        ({"hidden": 0}, "hidden must be"),
        ({"reduction": 0}, "reduction must be"),
    ],
    ids=str,
)
def test_wrong_options_raise(options, message):
    with pytest.raises(WhatwhereError, match=message):
        ww.SelectiveKernel(C, **options)
