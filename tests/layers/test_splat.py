import numpy as np
import pytest
import torch
from scipy.special import expit

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .conv_numpy import CLOSE, Norms, a_map, average, convolve, softmax, trained, weights

C = 24


def averaged(x, stride):
    """Averages of 3×3 with the zeros around the map counted."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, columns = (range(0, side, stride) for side in x.shape[2:])
    return np.stack([[padded[:, :, r : r + 3, c : c + 3].sum((2, 3)) / 9 for c in columns] for r in rows]).transpose(
        2, 3, 0, 1
    )


FORMS = [
    ({}, 32),
    ({"radix": 1}, 32),
    ({"radix": 1, "cardinality": 3}, 33),
    ({"radix": 3, "cardinality": 2, "kernel_size": 5, "reduction": 2}, 36),
    ({"radix": 2, "cardinality": 4, "reduction": 1}, 48),
    ({"stride": 2, "hidden": 6}, 6),
    ({"stride": 3, "pool_first": True}, 32),
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("options", "width"), FORMS, ids=str)
def test_formula(options, width, training):
    attention = trained(ww.SplitAttention(C, **options)).train(training)
    radix, cardinality, stride = (options.get(*pair) for pair in (("radix", 2), ("cardinality", 1), ("stride", 1)))
    x, w = a_map((4, C, 7, 6)), weights(attention)
    norm, first = Norms(w, training), options.get("pool_first", False)
    v = averaged(x.numpy(), stride) if first else x.numpy()
    u = np.maximum(norm(convolve(v, w, "conv", groups=radix * cardinality), "bn0"), 0)
    blocks = [u[:, r * C : (r + 1) * C] for r in range(radix)]
    hidden = convolve(average(sum(blocks)), w, "fc1", groups=cardinality)
    assert hidden.shape[1] == width
    z = convolve(np.maximum(norm(hidden, "bn1"), 0), w, "fc2", groups=cardinality).reshape(4, -1)
    part = C // cardinality
    want = 0
    for r in range(radix):
        gate = np.zeros((4, C))
        for k in range(cardinality):
            logits = z[:, k * radix * part : (k + 1) * radix * part].reshape(4, radix, part)
            gate[:, k * part : (k + 1) * part] = expit(logits[:, 0]) if radix == 1 else softmax(logits, 1)[:, r]
        want = want + gate[:, :, None, None] * blocks[r]
    if stride > 1 and not first:
        want = averaged(want, stride)
    np.testing.assert_allclose(attention(x).detach(), want, **CLOSE)
    norm.check(attention)


def test_the_average_counts_the_zeros_around():
    x = np.ones((1, 1, 3, 3))
    np.testing.assert_allclose(averaged(x, 2)[0, 0], np.full((2, 2), 4 / 9))


@pytest.mark.parametrize(
    ("channels", "options", "hidden"),
    [
        (64, {}, 32),
        (128, {}, 64),
        (256, {"radix": 4}, 256),
        (60, {"cardinality": 5}, 35),
        (2, {}, 32),
        (64, {"hidden": 7}, 7),
    ],
    ids=str,
)
def test_hidden_width(channels, options, hidden):
    attention = ww.SplitAttention(channels, **options)
    assert attention.fc1.out_channels == hidden
    assert attention(torch.rand(2, channels, 4, 4)).shape == (2, channels, 4, 4)


def test_start():
    torch.manual_seed(0)
    attention = ww.SplitAttention(256)
    assert attention.conv.bias is None
    assert attention.conv.weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.05)
    assert attention.fc1.weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert 0 < attention.fc1.bias.abs().max() <= 256**-0.5
    assert 0 < attention.fc2.bias.abs().max() <= 128**-0.5


def test_one_image_in_training_takes_the_running_statistics_of_the_squeezed_map():
    attention = trained(ww.SplitAttention(8)).train()
    x = a_map((1, 8, 5, 5))
    before = attention.bn1.running_mean.clone()
    got = attention(x)
    assert attention.bn1.running_mean.equal(before)
    attention.bn1.eval()
    torch.testing.assert_close(got, attention(x))


@pytest.mark.parametrize("options", [{}, {"radix": 1}, {"radix": 4, "cardinality": 2}], ids=str)
def test_timms_names_load(options):
    layers = pytest.importorskip("timm.layers")
    radix, cardinality = options.get("radix", 2), options.get("cardinality", 1)
    theirs = trained(layers.SplitAttn(64, radix=radix, groups=cardinality, norm_layer=torch.nn.BatchNorm2d))
    tensors = {f"layer1.0.conv2.{name}": tensor for name, tensor in theirs.state_dict().items()}
    ours = ww.SplitAttention(64, **options).double().eval().load_official(tensors)
    x = a_map((2, 64, 5, 6))
    torch.testing.assert_close(ours(x), theirs(x))
    found = ww.SplitAttention.options_from_shapes({k: tuple(v.shape) for k, v in theirs.state_dict().items()})
    hidden = ours.fc1.out_channels
    assert found == {"radix": radix, "cardinality": cardinality, "kernel_size": 3, "hidden": hidden}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radix": 5}, "channels must be a multiple of 5 .radix times cardinality., got 24: take 20 or 25"),
        ({"cardinality": 8}, "multiple of 16"),
        ({"radix": 0}, "radix must be"),
        ({"hidden": 9, "cardinality": 2}, "hidden must be a multiple of 2 .cardinality., got 9: take 8 or 10"),
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"pool_first": "yes"}, "pool_first must be True or False"),
        ({"reduction": 0}, "reduction must be"),
    ],
    ids=str,
)
def test_wrong_options_raise(options, message):
    with pytest.raises(WhatwhereError, match=message):
        ww.SplitAttention(C, **options)
