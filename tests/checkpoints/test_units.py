"""Which attention of a checkpoint a key belongs to when several key maps know it."""

import pytest
import torch

import whatwhere as ww
from whatwhere.checkpoints.units import units
from whatwhere.layers import KeyMap, add_key_map


@pytest.fixture(autouse=True)
def key_maps():
    before = ww.SE.key_maps, ww.ECA.key_maps
    yield
    ww.SE.key_maps, ww.ECA.key_maps = before


def tensors(*keys):
    return [(key, torch.zeros(4, 4)) for key in keys]


SE = ("a.se.fc1.weight", "a.se.fc1.bias", "a.se.fc2.weight", "a.se.fc2.bias")
CBAM = ("b.se.channel.fc1.weight", "b.se.channel.fc2.weight", "b.se.spatial.conv.conv.weight")


def test_timms_names_are_told_apart():
    found, rest = units(tensors(*SE, *CBAM, "c.se.conv.weight", "fc.weight"))
    assert [(unit.name, unit.key_map.title) for unit in found] == [
        ("a.se", "timm's SE"),
        ("b.se", "timm's CBAM"),
        ("c.se", "timm's ECA"),
    ]
    assert rest == ["fc.weight"]
    assert found[0].keys["mlp.fc2.bias"] == "a.se.fc2.bias"


def test_the_key_map_that_knows_most_keys_counts():
    add_key_map("eca", KeyMap("half of it", {"fc1": "conv"}, r"(?P<block>.+)\.se"))
    add_key_map("eca", KeyMap("more of it", {"fc1": "a", "fc2": "b", "gamma": "c"}, r"(?P<block>.+)\.(?:se|more)"))
    found, rest = units(tensors(*SE))
    assert [unit.key_map.title for unit in found] == ["timm's SE"]  # as many keys as "more of it", and fewer parts
    found, rest = units(tensors(*SE, "a.se.gamma"))
    assert [unit.key_map.title for unit in found] == ["more of it"]
    assert rest == []
    found, rest = units(tensors("a.se.fc1.weight"))
    assert [unit.key_map.title for unit in found] == ["half of it"]


def test_keys_that_two_units_share_belong_to_the_larger_one():
    add_key_map("eca", KeyMap("inner", {"conv": "conv"}, r"(?P<block>.+)\.spatial\.conv"))
    found, rest = units(tensors(*CBAM))
    assert [(unit.name, unit.key_map.title) for unit in found] == [("b.se", "timm's CBAM")]
    assert rest == []


def test_a_tie_is_an_error():
    add_key_map("eca", KeyMap("a rival", {"fc1": "x", "fc2": "y"}, r"(?P<block>.+)\.s[e]"))
    with pytest.raises(ww.WhatwhereError, match=r"a\.se fits 'a rival' and \"timm's SE\" equally well: give one"):
        units(tensors(*SE))
