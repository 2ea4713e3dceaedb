import math

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.errors import WhatwhereError
from whatwhere.layers import windows

from .gates_numpy import CLOSE, GATES, a_map, trained, weights


def adaptive(u, rows, columns):
    """Adaptive averages, window after window."""
    h, w = u.shape[2:]
    out = np.empty((*u.shape[:2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            top, bottom = i * h // rows, math.ceil((i + 1) * h / rows)
            left, right = j * w // columns, math.ceil((j + 1) * w / columns)
            out[:, :, i, j] = u[:, :, top:bottom, left:right].mean((2, 3))
    return out


def along(line, kernel):
    """Cross-correlation of one line, padded with zeros."""
    k = len(kernel)
    padded = np.pad(line, (k // 2, k // 2))
    return np.array([padded[i : i + k] @ kernel for i in range(len(line))])


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(
    ("channels", "size", "options"),
    [
        (12, (11, 6), {}),
        (6, (5, 5), {"local_weight": 0.3}),
        (3, (3, 1), {"kernel_size": 5}),
        (1, (1, 1), {"local_size": 2}),
        (5, (7, 13), {"local_size": 3, "kernel_size": 1, "local_weight": 1}),
        (4, (2, 9), {"local_weight": 0}),
    ],
)
def test_the_formula(channels, size, options, gate):
    x = a_map(2, channels, *size)
    attention = trained(ww.MLCA(channels, gate=gate, **options))
    w = {name: value.reshape(-1) for name, value in weights(attention).items()}
    side, share = options.get("local_size", 5), options.get("local_weight", 0.5)
    cells = adaptive(x.numpy(), side, side)
    mixed = np.empty_like(cells)
    for image, out in zip(cells, mixed, strict=True):
        line = [image[c, i, j] for i in range(side) for j in range(side) for c in range(channels)]
        local = iter(GATES[gate](along(np.array(line), w["conv_local.weight"])))
        whole = GATES[gate](along(image.mean((1, 2)), w["conv.weight"]))
        for i in range(side):
            for j in range(side):
                for c in range(channels):
                    out[c, i, j] = share * next(local) + (1 - share) * whole[c]
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * adaptive(mixed, *size), **CLOSE)


@pytest.mark.parametrize(("channels", "kernel"), [(1, 1), (16, 3), (64, 3), (128, 5), (1024, 5), (2048, 7)])
def test_the_kernel_follows_the_width(channels, kernel):
    attention = ww.MLCA(channels, device="meta")
    assert attention.conv.kernel_size == attention.conv_local.kernel_size == (kernel,)


@pytest.mark.parametrize("size", [(5, 5), (7, 3), (1, 1), (2, 9), (56, 56)], ids=str)
@pytest.mark.parametrize("local", [5, 7, 11])
@pytest.mark.parametrize("share", [0.5, 0.3, 1.0])
def test_the_identity_start_is_exact_for_every_size(size, local, share):
    x = torch.randn(2, 3, *size)
    assert ww.MLCA(3, local_size=local, local_weight=share, identity=True)(x).equal(x)


def test_the_start():
    torch.manual_seed(0)
    assert (ww.MLCA(64).gates(a_map(2, 64, 9, 9).float()).full - 0.5).abs().max() < 0.2


@pytest.mark.parametrize("size", range(1, 20))
@pytest.mark.parametrize("outputs", [1, 2, 5, 7])
def test_windows_are_those_of_adaptive_pooling(size, outputs):
    x = a_map(1, 2, size, 11)
    want = torch.nn.functional.adaptive_avg_pool2d(x, (outputs, 4))
    rows, columns = windows.adaptive(size, outputs, x), windows.adaptive(11, 4, x)
    torch.testing.assert_close(windows.average(x, rows, columns), want)
    torch.testing.assert_close(windows.average_few(x, rows, columns), want)


def test_large_values_do_not_overflow_float16():
    x = torch.full((1, 2, 64, 64), 1000.0, dtype=torch.float16)
    rows = windows.adaptive(64, 5, x)
    assert (windows.average(x, rows, rows) - 1000).abs().max() <= 2


def test_the_official_names():
    theirs = {"model.9.conv.weight": torch.randn(1, 1, 3), "model.9.conv_local.weight": torch.randn(1, 1, 3)}
    ours = ww.MLCA(64).load_official(theirs)
    assert ours.conv.weight.equal(theirs["model.9.conv.weight"])
    assert ours.conv_local.weight.equal(theirs["model.9.conv_local.weight"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"local_weight": 1.5}, "from 0 to 1, got 1.5"),
        ({"local_weight": True}, "from 0 to 1, got True"),
        ({"local_weight": "half"}, "from 0 to 1, got 'half'"),
        ({"kernel_size": 4}, "take 3 or 5"),
        ({"local_size": 0}, "local_size must be"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(WhatwhereError, match=says):
        ww.MLCA(8, **options)
