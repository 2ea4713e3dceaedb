"""Cheap operations between maps: equal to least squares done by others, and which maps are given up for them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from whatwhere import WhatwhereError
from whatwhere.surgery.cheap_fit import _RIDGE, POSITIONS, CheapFits, PairSums, Positions, pair_up


def lstsq(neighbours, target, ridge):
    """Weights and constant of the ridge regression with NumPy: the ridge as rows of their own."""
    a, b = neighbours - neighbours.mean(0), target - target.mean()
    rows = np.vstack([a, math.sqrt(ridge * len(a)) * np.eye(a.shape[1])])
    weights = np.linalg.lstsq(rows, np.concatenate([b, np.zeros(a.shape[1])]), rcond=None)[0]
    missed = float(((b - a @ weights) ** 2).mean())
    return weights, target.mean() - neighbours.mean(0) @ weights, 1 - missed / float((b**2).mean())


def everywhere(maps, size):
    """All positions of maps: the neighbourhoods, by loops."""
    n, c, height, width = maps.shape
    m = size // 2
    padded = np.pad(maps.numpy(), ((0, 0), (0, 0), (m, m), (m, m)))
    rows = [
        padded[i, :, y : y + size, x : x + size].reshape(c, -1)
        for i in range(n)
        for y in range(height)
        for x in range(width)
    ]
    return np.stack(rows)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_every_pair_equals_numpys_least_squares(size):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(30, 4, 4, 5, generator=generator, dtype=torch.float64)
    maps = maps + 0.5 * maps.roll(1, 1) + torch.tensor([0.0, 1, -2, 3])[:, None, None]
    wanted = maps + 0.3 * torch.randn(maps.shape, generator=generator, dtype=torch.float64)
    positions = Positions.draw(maps, generator)
    assert len(positions.row) == 30 * 20 <= 30 * POSITIONS
    sums = PairSums(size)
    for part in range(0, 600, 200):  # sums may come in parts
        cut = Positions(*(v[part : part + 200] for v in (positions.image, positions.row, positions.column)))
        sums.add(cut.neighbourhoods(maps, size), cut.values(wanted))
    fits = sums.fits()
    around = everywhere(maps, size)
    target = wanted.permute(0, 2, 3, 1).reshape(-1, 4).numpy()
    for j in range(4):
        ridge = _RIDGE * around[:, j].var(0).mean()
        for i in range(4):
            weights, bias, explained = lstsq(around[:, j], target[:, i], ridge)
            np.testing.assert_allclose(fits.weights[j, :, i], weights, rtol=1e-8, atol=1e-10)
            assert float(fits.bias(j, i)) == pytest.approx(bias, rel=1e-8, abs=1e-10)
            assert float(fits.explained[j, i]) == pytest.approx(explained, rel=1e-8)
            centre = around[:, j, size**2 // 2]
            assert float(fits.copied[j, i]) == pytest.approx(np.corrcoef(centre, target[:, i])[0, 1] ** 2, rel=1e-8)
        missed = (around[:, j, size**2 // 2] - target[:, j]).var() / target[:, j].var()
        assert float(fits.missed[j]) == pytest.approx(missed, rel=1e-8)
    best, source = fits.best_sources(fits.explained)
    assert all(source[i] != i and best[i] == fits.explained[source[i], i] for i in range(4))


def test_positions_are_drawn_without_repetition_and_look_beyond_the_border_as_0():
    maps = torch.randn(3, 2, 8, 9, generator=torch.Generator().manual_seed(0))
    positions = Positions.draw(maps, torch.Generator().manual_seed(1))
    drawn = list(zip(positions.image.tolist(), positions.row.tolist(), positions.column.tolist(), strict=True))
    assert len(set(drawn)) == len(drawn) == 3 * POSITIONS
    all_of_them = everywhere(maps, 3)
    near, here = positions.neighbourhoods(maps, 3), positions.values(maps)
    for number, (image, row, column) in enumerate(drawn):
        want = all_of_them[image * 72 + row * 9 + column]
        np.testing.assert_array_equal(near[number].float(), want)
        np.testing.assert_array_equal(here[number].float(), want[:, 4])


def test_maps_that_do_not_vary():
    maps = torch.randn(20, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    maps[:, 1] = 2.5
    positions = Positions.draw(maps, torch.Generator())
    sums = PairSums(3)
    sums.add(positions.neighbourhoods(maps, 3), positions.values(maps))
    fits = sums.fits()
    assert fits.constant.tolist() == [False, True, False]
    assert fits.explained[:, 1].tolist() == [1, 1, 1]
    assert not fits.weights[:, :, 1].any()
    assert float(fits.bias(0, 1)) == pytest.approx(2.5)
    assert fits.missed[1] == 0


def test_what_cannot_be_fitted():
    maps = torch.randn(1, 2, 4, 4)
    positions = Positions.draw(maps, torch.Generator())
    sums = PairSums(3)
    sums.add(positions.neighbourhoods(maps, 3), positions.values(maps))
    with pytest.raises(WhatwhereError, match="16 positions for 10 numbers"):
        sums.fits()
    sums = PairSums(1)
    maps[0, 1, 2, 2] = torch.nan
    sums.add(positions.neighbourhoods(maps, 1), positions.values(maps))
    with pytest.raises(WhatwhereError, match="NaN"):
        sums.fits()
    for name in ("weight", "bias"):
        conv = nn.Conv2d(2, 4, 3)
        with torch.no_grad():
            getattr(conv, name)[1] = torch.inf
        with pytest.raises(WhatwhereError, match="NaN or infinity"):
            CheapFits.of_filters(conv, 3)


CONVS = [
    {"kernel_size": 3},
    {"kernel_size": 1},
    {"kernel_size": 3, "stride": 2},
    {"kernel_size": 3, "dilation": 2},
    {"kernel_size": (5, 3), "stride": (1, 2), "dilation": (1, 2)},
]


@pytest.mark.parametrize("options", CONVS, ids=str)
@pytest.mark.parametrize("size", [1, 3, 5])
def test_fits_of_filters_equal_least_squares_over_shifted_filters(options, size):
    """A depthwise tap (a, b) of a map moves the filter by (a, b) times the stride: least squares on a wide canvas."""
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 4, **options).double()
    fits = CheapFits.of_filters(conv, size)
    reach, k, d, s = size // 2, conv.kernel_size, conv.dilation, conv.stride
    side = [2 * reach * s[i] + d[i] * (k[i] - 1) + 1 for i in (0, 1)]

    def canvas(filters, down, right):
        out = np.zeros((2, *side))
        for a in range(k[0]):
            for b in range(k[1]):
                out[:, (reach + down) * s[0] + a * d[0], (reach + right) * s[1] + b * d[1]] = filters[:, a, b]
        return out.ravel()

    filters = conv.weight.detach().numpy()
    steps = range(-reach, reach + 1)
    for j in range(4):
        a = np.stack([canvas(filters[j], y, x) for y in steps for x in steps], 1)
        ridge = _RIDGE * (a**2).sum(0).mean()
        for i in range(4):
            b = canvas(filters[i], 0, 0)
            rows = np.vstack([a, math.sqrt(ridge) * np.eye(size**2)])
            weights = np.linalg.lstsq(rows, np.concatenate([b, np.zeros(size**2)]), rcond=None)[0]
            np.testing.assert_allclose(fits.weights[j, :, i], weights, rtol=1e-8, atol=1e-9)
            explained = 1 - ((b - a @ weights) ** 2).sum() / (b**2).sum()
            assert float(fits.explained[j, i]) == pytest.approx(explained, rel=1e-8)
            copied = (filters[i] * filters[j]).sum() ** 2 / ((filters[i] ** 2).sum() * (filters[j] ** 2).sum())
            assert float(fits.copied[j, i]) == pytest.approx(copied, rel=1e-8)
            bias = conv.bias[i].item() - conv.bias[j].item() * weights.sum()
            assert float(fits.bias(j, i)) == pytest.approx(bias, rel=1e-8, abs=1e-9)
    assert fits.missed.max() < 1e-12


@pytest.mark.parametrize(
    "options", [{"kernel_size": 3}, {"kernel_size": 3, "stride": 2}, {"kernel_size": 3, "dilation": 2}]
)
def test_fits_of_filters_are_those_on_white_noise(options):
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 4, **options).double()
    maps = conv(torch.randn(8, 2, 130, 130, dtype=torch.float64)).detach()
    inner = maps[:, :, 1:-1, 1:-1]
    taps = F.unfold(maps.flatten(0, 1)[:, None], 3).unflatten(0, (8, 4)).permute(0, 3, 1, 2).flatten(0, 1)
    sums = PairSums(3)
    sums.add(taps, inner.permute(0, 2, 3, 1).flatten(0, 2))
    seen, told = sums.fits(), CheapFits.of_filters(conv, 3)
    for name in ("explained", "copied"):
        torch.testing.assert_close(getattr(told, name), getattr(seen, name), rtol=0, atol=0.03)
    torch.testing.assert_close(told.weights, seen.weights, rtol=0, atol=0.1)


@given(n=st.integers(2, 24), ratio=st.integers(2, 6), seed=st.integers(0, 10**6), ties=st.booleans())
@settings(max_examples=150)
def test_pairs(n, ratio, seed, ties):
    ratio = min(ratio, n)
    explained = torch.rand(n, n, generator=torch.Generator().manual_seed(seed))
    if ties:
        explained = explained.round(decimals=1)
    source = pair_up(explained, ratio)
    primary = set(range(n)) - source.keys()
    assert len(primary) == math.ceil(n / ratio)
    assert set(source.values()) <= primary  # no map is both
    served = list(source.values())
    assert all(served.count(j) <= ratio - 1 for j in primary)
    others = explained.masked_fill(torch.eye(n, dtype=torch.bool), -1)
    assert any(explained[j, i] == others.max() for i, j in source.items())  # the best pair of all is taken
