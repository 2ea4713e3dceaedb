import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.errors import WhatwhereError
from whatwhere.layers import windows

from .gates_numpy import CLOSE, GATES, a_map, group_norm, pointwise, softmax, trained, weights

LINES = ("local_dwc", "global_dwc_s", "global_dwc_m", "global_dwc_l")


def line_gate(w, means, norm, gate):
    part = means.shape[1] // 4
    z = np.empty_like(means)
    for number, name in enumerate(LINES):
        for c in range(part):
            kernel = w[f"{name}.weight"][c, 0]
            padded = np.pad(means[:, number * part + c], ((0, 0), (len(kernel) // 2, len(kernel) // 2)))
            for place in range(means.shape[2]):
                z[:, number * part + c, place] = padded[:, place : place + len(kernel)] @ kernel + w[f"{name}.bias"][c]
    return gate(group_norm(w, z, norm, 4))


def pooled(u, window, pool):
    reduce = {"avg": np.mean, "max": np.max}[pool]
    h, w = (u.shape[2], u.shape[3]) if window is None else (min(window, u.shape[2]), min(window, u.shape[3]))
    rows, columns = u.shape[2] // h, u.shape[3] // w
    out = np.empty((*u.shape[:2], rows, columns))
    for i in range(rows):
        for j in range(columns):
            out[:, :, i, j] = reduce(u[:, :, i * h : (i + 1) * h, j * w : (j + 1) * w], axis=(2, 3))
    return out


def channel_gate(w, u, heads, gate):
    n, c = u.shape[:2]
    u = group_norm(w, u, "norm", 1)
    diagonal = {f"{k}.weight": np.diag(w[f"{k}.weight"].reshape(-1)) for k in "qkv"}
    q, k, v = (pointwise({**w, **diagonal}, u, name).reshape(n, heads, c // heads, -1) for name in "qkv")
    logits = q @ k.transpose(0, 1, 3, 2) / np.sqrt(c // heads)
    return gate((softmax(logits, 3) @ v).mean(3).reshape(n, c, 1, 1))


@pytest.mark.parametrize(
    ("channels", "size", "options"),
    [
        (16, (15, 14), {}),
        (12, (8, 7), {"heads": 3, "bias": True, "gate": "hard_sigmoid"}),
        (8, (3, 9), {}),
        (4, (1, 1), {}),
        (8, (7, 6), {"window_size": 3, "kernel_sizes": (1, 3, 3, 5)}),
        (8, (7, 6), {"window_size": 2, "pool": "max", "kernel_sizes": [9, 7, 5, 3]}),
        (8, (3, 6), {"window_size": 4, "pool": "max"}),
        (8, (9, 8), {"window_size": None, "heads": 2}),
        (8, (9, 8), {"window_size": None, "pool": "max"}),
    ],
)
def test_the_formula(channels, size, options):
    x = a_map(3, channels, *size)
    attention = trained(ww.SCSA(channels, **options))
    w, gate = weights(attention), GATES[options.get("gate", "sigmoid")]
    rows, columns = line_gate(w, x.numpy().mean(3), "norm_h", gate), line_gate(w, x.numpy().mean(2), "norm_w", gate)
    u = x.numpy() * rows[..., None] * columns[:, :, None]
    cells = pooled(u, options.get("window_size", 7), options.get("pool", "avg"))
    want = u * channel_gate(w, cells, options.get("heads", 1), gate)
    np.testing.assert_allclose(attention(x).detach(), want, **CLOSE)


def test_the_start():
    x = a_map(2, 32, 14, 14).float()
    torch.manual_seed(0)
    assert (ww.SCSA(32)(x) / x).mean().item() == pytest.approx(1 / 8, abs=0.04)
    same = ww.SCSA(32, identity=True, bias=True)
    assert same(x).equal(x)
    (same(x) * a_map(2, 32, 14, 14, seed=1).float()).sum().backward()
    assert all(same.get_parameter(f"{name}.weight").grad.abs().max() > 0 for name in ("norm_h", "norm_w", "v"))


def test_the_official_names():
    shapes = {k: v.shape for k, v in ww.SCSA(8, bias=True).state_dict().items()}
    theirs = {f"layer1.0.attn.{k}": torch.randn(shape) for k, shape in shapes.items()}
    ours = ww.SCSA(8, bias=True).load_official(theirs)
    assert all(ours.state_dict()[k].equal(theirs[f"layer1.0.attn.{k}"]) for k in shapes)
    found = ww.SCSA.options_from_shapes({k: tuple(v) for k, v in shapes.items()})
    assert found == {"kernel_sizes": (3, 5, 7, 9), "bias": True}


@pytest.mark.parametrize("size", range(1, 20))
@pytest.mark.parametrize("window", [1, 2, 7])
def test_windows_side_by_side(size, window):
    x = a_map(1, 2, size, 9)
    sides = windows.strided(size, window, x), windows.strided(9, 4, x)
    want = torch.nn.functional.avg_pool2d(x, (min(window, size), 4))
    got = windows.average(x, *sides)
    torch.testing.assert_close(got[:, :, : want.shape[2], : want.shape[3]], want)
    assert got[:, :, want.shape[2] :].eq(0).all()
    assert got[:, :, :, want.shape[3] :].eq(0).all()
    assert got.shape[2] > want.shape[2]


def test_kernels_are_recorded_as_a_tuple():
    assert ww.SCSA(8, kernel_sizes=[3, 5, 7, 9]).settings()["kernel_sizes"] == (3, 5, 7, 9)


@pytest.mark.parametrize(
    ("channels", "options", "says"),
    [
        (10, {}, "multiple of 4.*got 10: take 8 or 12"),
        (12, {"heads": 5}, "must divide the 12 channels, got 5: take 4"),
        (8, {"kernel_sizes": (3, 5, 7)}, "four odd numbers"),
        (8, {"kernel_sizes": (3, 5, 7, 8)}, "take 7 or 9"),
        (8, {"window_size": 0}, "window_size must be"),
        (8, {"pool": "mean"}, "unknown pool"),
        (8, {"bias": 1}, "bias must be True or False"),
    ],
)
def test_wrong_options(channels, options, says):
    with pytest.raises(WhatwhereError, match=says):
        ww.SCSA(channels, **options)
