"""FCA: its formula in NumPy, its frequencies, sizes and key names."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit

import whatwhere as ww
from whatwhere.errors import WhatwhereError
from whatwhere.layers.fca import FREQUENCIES

ROWS, COLUMNS = [0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2], [0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2]
TOP16 = list(zip(ROWS, COLUMNS, strict=True))
LOW8 = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (2, 1), (1, 2)]
BOT4 = [(6, 6), (1, 4), (3, 4), (3, 6)]


def a_map(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def trained(attention):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in attention.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return attention.double()


def pooled(image, size):
    """Averages of the positions from ⌊i·H/h⌋ to ⌈(i + 1)·H/h⌉, which may overlap."""
    height, width = image.shape
    found = np.empty(size)
    for i in range(size[0]):
        for j in range(size[1]):
            rows = slice(i * height // size[0], math.ceil((i + 1) * height / size[0]))
            columns = slice(j * width // size[1], math.ceil((j + 1) * width / size[1]))
            found[i, j] = image[rows, columns].mean()
    return found


def wave(f, i, length):
    return math.cos(math.pi * f * (i + 0.5) / length) / math.sqrt(length) * (math.sqrt(2) if f else 1)


def gates(x, w, size, pairs):
    part = x.shape[1] // len(pairs)
    squeezed = np.zeros(x.shape[:2])
    for c in range(x.shape[1]):
        u, v = pairs[c // part]
        u, v = u * (size[0] // 7), v * (size[1] // 7)
        waves = np.array([[wave(u, i, size[0]) * wave(v, j, size[1]) for j in range(size[1])] for i in range(size[0])])
        for n in range(x.shape[0]):
            squeezed[n, c] = (pooled(x[n, c], size) * waves).sum()
    return expit(np.maximum(squeezed @ w["fc.0.weight"].T, 0) @ w["fc.2.weight"].T)


@pytest.mark.parametrize(
    ("channels", "options", "size", "pairs"),
    [
        (32, {}, (7, 7), TOP16),
        (20, {}, (7, 7), TOP16[:10]),
        (7, {}, (7, 7), TOP16[:7]),
        (17, {}, (7, 7), TOP16[:1]),
        (16, {"size": 14, "frequencies": "low8"}, (14, 14), LOW8),
        (12, {"size": (15, 8), "frequencies": "bot4"}, (15, 8), BOT4),
    ],
    ids=str,
)
@pytest.mark.parametrize("map_size", [(7, 7), (14, 9), (3, 1)])
def test_formula(channels, options, size, pairs, map_size):
    x = a_map(2, channels, *map_size)
    attention = trained(ww.FCA(channels, reduction=4, **options, dtype=torch.float64))
    w = {name: value.numpy() for name, value in attention.state_dict().items()}
    assert w["fc.0.weight"].shape == (max(1, channels // 4), channels)
    want = gates(x.numpy(), w, size, pairs)
    np.testing.assert_allclose(attention.gates(x).channel.detach()[:, :, 0, 0], want, rtol=1e-9)


def test_every_selection_is_orthonormal_and_has_its_number():
    assert len(FREQUENCIES) == 18
    for name in FREQUENCIES:
        waves = ww.FCA(32, frequencies=name, dtype=torch.float64).dct_layer.weight.flatten(1)
        torch.testing.assert_close(waves.norm(dim=1), torch.ones(32, dtype=torch.float64))
        products = (waves @ waves.T).abs()
        assert products.minimum((products - 1).abs()).max() < 1e-12
        assert products.round().sum() == 32 * 32 // int(name[3:])


def test_the_first_frequency_is_the_average_times_the_side():
    attention = ww.FCA(4, size=(7, 14), frequencies="top1", dtype=torch.float64)
    torch.testing.assert_close(attention.dct_layer.weight, torch.full((4, 7, 14), 98**-0.5, dtype=torch.float64))


def test_start():
    attention = ww.FCA(256)
    assert sum(p.numel() for p in attention.parameters()) == 8192
    assert (attention.gates(a_map(2, 256, 7, 7).float()).channel - 0.5).abs().max() < 0.25
    assert ww.FCA(256, identity=True).fc[2].weight.eq(0).all()
    assert ww.FCA(8).fc[0].weight.shape == (1, 8)


@pytest.mark.parametrize("prefix", ["", "layer1.0.att."])
def test_official_names(prefix):
    one = trained(ww.FCA(64, size=14, frequencies="low16"))
    theirs = {prefix + name: value for name, value in one.state_dict().items()}
    assert set(theirs) == {prefix + name for name in ("dct_layer.weight", "fc.0.weight", "fc.2.weight")}
    x = a_map(2, 64, 9, 9)
    loaded = ww.FCA(64, size=14).double().load_official(theirs)  # the checkpoint's own frequencies count
    assert loaded(x).equal(one(x))
    shapes = {name: tuple(value.shape) for name, value in one.state_dict().items()}
    assert ww.FCA.options_from_shapes(shapes) == {"reduction": 16, "size": 14}
    with pytest.raises(WhatwhereError, match="of another shape"):
        ww.FCA(64).load_official(theirs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 6}, "size must be at least 7, the scale of the frequencies, got 6: take 7"),
        ({"size": (7, 7, 7)}, "size must be a whole number or a pair of them"),
        ({"size": 7.0}, "size must be a whole number or a pair of them"),
        ({"frequencies": "top3"}, "unknown frequencies 'top3'"),
        ({"frequencies": "top16"}, r"channels must be a multiple of 16 .* got 20: take 16 or 32"),
        ({"reduction": 0}, "reduction must be a whole number"),
    ],
    ids=str,
)
def test_bad_options(options, message):
    with pytest.raises(WhatwhereError, match=message):
        ww.FCA(20, **options)
