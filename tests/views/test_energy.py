import pytest
import torch

from whatwhere.errors import WhatwhereError
from whatwhere.layers import Gates
from whatwhere.views import area_inside, energy_inside, spatial_energy


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


BOXES = [boxes((2, 3, 11, 9)), boxes((0, 0, 5, 5), (3, 3, 8, 8)), boxes(), boxes((-4, -4, 100, 100))]
SIZE = (13, 17)


def test_area_of_a_union_and_beyond_the_edges():
    expected = torch.tensor([9 * 6, 25 + 25 - 4, 0, 13 * 17]) / (13 * 17)
    assert torch.allclose(area_inside(BOXES, SIZE), expected.double(), atol=1e-7)


@pytest.mark.parametrize("value", [1.0, 0.1, 0.4999, 1.37, 1e-30, 0.0, -3.0])
def test_a_constant_map_has_exactly_the_share_of_the_area(value):
    assert torch.equal(energy_inside(torch.full((4, *SIZE), value), BOXES), area_inside(BOXES, SIZE))


@pytest.mark.parametrize("value", [0.5, 0.123, 1.0])
def test_a_constant_gate_has_the_share_of_the_area(value):
    full = Gates(full=torch.full((4, 6, 4, 4), value))
    spatial = Gates(channel=torch.rand(4, 6, 1, 1), spatial=torch.full((4, 1, 4, 4), value))
    for gates in (full, spatial, spatial.spatial, spatial.spatial[:, 0]):
        torch.testing.assert_close(spatial_energy(gates, BOXES, SIZE), area_inside(BOXES, SIZE), rtol=1e-12, atol=0)


def test_all_some_and_none_inside():
    maps = torch.zeros(3, 8, 8)
    maps[0, 2:4, 2:4] = 5  # all inside
    maps[1, 2, 2], maps[1, 7, 7] = 1, 3  # a quarter
    maps[2, 0, 0] = 1  # none
    inside = energy_inside(maps, [boxes((2, 2, 4, 4))] * 3)
    assert inside.tolist() == [1.0, 0.25, 0.0]


def test_x_is_across_and_y_is_down():
    maps = torch.zeros(1, 4, 8)
    maps[0, 1, 6] = 1
    assert energy_inside(maps, [boxes((6, 1, 7, 2))]).item() == 1
    assert energy_inside(maps, [boxes((1, 6, 2, 7))]).item() == 0


def test_what_is_below_zero_has_no_energy():
    maps = torch.tensor([[[1.0, -5.0], [1.0, 0.0]]])
    assert energy_inside(maps, [boxes((0, 0, 1, 1))]).item() == 0.5


def test_overlapping_boxes_count_once():
    maps = torch.rand(1, 9, 9)
    one = energy_inside(maps, [boxes((1, 1, 6, 6))])
    assert torch.equal(one, energy_inside(maps, [boxes((1, 1, 6, 6), (2, 2, 4, 4), (1, 1, 6, 6))]))


def test_small_maps_are_brought_to_the_image():
    maps = torch.zeros(1, 2, 2)
    maps[0, 0, 0] = 1
    inside = energy_inside(maps, [boxes((0, 0, 16, 16))], size=(32, 32))
    assert 0.7 < inside.item() < 1
    maps = torch.rand(2, 7, 7)
    half = energy_inside(maps, [boxes((0, 0, 56, 112)), boxes((56, 0, 112, 112))], size=(112, 112))
    assert (half > 0.2).all()
    assert (half < 0.8).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float(dtype):
    maps = torch.rand(4, *SIZE).to(dtype)
    inside = energy_inside(maps, BOXES)
    assert inside.dtype == torch.float64
    assert inside[2] == 0
    assert inside[3] == 1


def test_errors():
    with pytest.raises(WhatwhereError, match=r"\(N, H, W\)"):
        energy_inside(torch.rand(4, 4), BOXES)
    with pytest.raises(WhatwhereError, match="got 4 for 3 maps"):
        energy_inside(torch.rand(3, 4, 4), BOXES)
    with pytest.raises(WhatwhereError, match="not finite"):
        energy_inside(torch.full((1, 4, 4), float("nan")), BOXES[:1])
    with pytest.raises(WhatwhereError, match=r"\(k, 4\)"):
        area_inside([torch.rand(2, 5)], SIZE)
    with pytest.raises(WhatwhereError, match="no spatial part"):
        spatial_energy(Gates(channel=torch.rand(1, 4, 1, 1)), BOXES[:1], SIZE)
