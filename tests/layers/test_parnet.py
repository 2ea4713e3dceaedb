import numpy as np
import pytest
import torch
from scipy.special import expit

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .conv_numpy import CLOSE, Norms, a_map, average, convolve, trained, weights

C = 10


def averaged(x, stride):
    """Averages of blocks; the last of a side that the stride does not divide are over what is left."""
    height, width = x.shape[2:]
    rows, columns = range(0, height, stride), range(0, width, stride)
    cells = [[x[:, :, r : r + stride, c : c + stride].mean((2, 3)) for c in columns] for r in rows]
    return np.stack(cells).transpose(2, 3, 0, 1)


ACTIVATIONS = {"silu": lambda z: z * expit(z), "relu": lambda z: np.maximum(z, 0)}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("stride", "size"), [(1, (6, 5)), (2, (8, 6)), (2, (7, 5)), (3, (7, 8))])
def test_formula(stride, size, activation, training):
    attention = trained(ww.ParNetAttention(C, stride=stride, activation=activation)).train(training)
    x, w = a_map((3, C, *size)), weights(attention)
    norm, u = Norms(w, training), x.numpy()
    dense = norm(convolve(u, w, "rbr_dense.conv", stride), "rbr_dense.bn")
    if stride == 1:
        skip = norm(u, "rbr_identity")
        gate = expit(convolve(average(skip), w, "se.cvsig.conv"))
        z = dense + norm(convolve(u, w, "rbr_1x1.conv"), "rbr_1x1.bn") + skip * gate
    else:
        gate = 2 * expit(convolve(average(u), w, "se.cvsig.conv"))
        z = (dense + norm(convolve(averaged(u, stride), w, "rbr_1x1.1.conv"), "rbr_1x1.1.bn")) * gate
    np.testing.assert_allclose(attention(x).detach(), ACTIVATIONS[activation](z), **CLOSE)
    norm.check(attention)


@pytest.mark.parametrize("stride", [1, 2])
def test_official_names_load(stride):
    source = trained(ww.ParNetAttention(C, stride=stride))
    point = "rbr_1x1" if stride == 1 else "rbr_1x1.1"
    leaves = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    norms = [f"{point}.bn", "rbr_dense.bn", *(["rbr_identity"] if stride == 1 else [])]
    want = {f"{norm}.{leaf}" for norm in norms for leaf in leaves}
    assert set(source.state_dict()) == want | {f"{point}.conv.weight", "rbr_dense.conv.weight", "se.cvsig.conv.weight"}
    tensors = {f"module.streams.0.1.block.{name}": tensor for name, tensor in source.state_dict().items()}
    x = a_map((2, C, 6, 4))
    loaded = ww.ParNetAttention(C, stride=stride).double().eval().load_official(tensors)
    torch.testing.assert_close(loaded(x), source(x))
    with pytest.raises(WhatwhereError, match="does not fit"):
        ww.ParNetAttention(C, stride=3 - stride).load_official(tensors)


def test_start():
    """Normalisations start as the identity, so the branches count alike."""
    attention = ww.ParNetAttention(C)
    norms = [m for m in attention.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 3
    assert all(norm.weight.eq(1).all() and norm.bias.eq(0).all() for norm in norms)
    assert all(m.bias is None for m in attention.modules() if isinstance(m, torch.nn.Conv2d))


def test_one_value_a_channel_takes_the_running_statistics():
    attention = trained(ww.ParNetAttention(C)).train()
    x = a_map((1, C, 1, 1))
    got = attention(x)
    torch.testing.assert_close(got, attention.eval()(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"activation": "swish"}, "unknown activation 'swish'"), ({"activation": "rellu"}, "relu")],
    ids=str,
)
def test_wrong_options_raise(options, message):
    with pytest.raises(WhatwhereError, match=message):
        ww.ParNetAttention(C, **options)
