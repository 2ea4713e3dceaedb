"""Triplet attention: its formula again in NumPy, its start, its names in the published networks."""

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.errors import WhatwhereError

from .lines_numpy import CLOSE, a_map, batch_norm, convolve, gate, like_torch, randomised, statistics_follow

# The axis that is pooled, and the axes of the plane in the order in which the kernel has its rows and columns.
PLANES = {"cw": (2, (1, 3)), "hc": (3, (2, 1)), "hw": (1, (2, 3))}


def numpy_gate(w, branch, x, options, training):
    pooled, (rows, columns) = PLANES[branch]
    u = np.moveaxis(x, (pooled, rows, columns), (1, 2, 3))
    z = convolve(w, f"{branch}.conv.conv", np.stack((u.max(1), u.mean(1)), 1))
    g = gate(batch_norm(w, f"{branch}.conv.bn", z, training), options)
    return np.moveaxis(g, (1, 2, 3), (pooled, rows, columns)), z


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"kernel_size": 3}, {"spatial": False}, {"gate": "hard_sigmoid"}, {"identity": True}],
    ids=str,
)
def test_formula(options, training):
    x = a_map(3, 12, 6, 5)
    attention, w = randomised(ww.TripletAttention(12, **options), training)
    branches = ["cw", "hc"] + ["hw"] * options.get("spatial", True)
    gates = {branch: numpy_gate(w, branch, x.numpy(), options, training) for branch in branches}
    want = sum(g for g, _ in gates.values()) / len(branches)
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * want, **CLOSE)
    if training:
        for branch in branches:
            statistics_follow(attention, w, f"{branch}.conv.bn", gates[branch][1], 0.01)


def test_a_plane_of_one_value_takes_the_running_statistics():
    """One image, one channel, one column: the plane of channels and columns has one value, the others have four."""
    x = a_map(1, 1, 4, 1)
    attention, w = randomised(ww.TripletAttention(1), training=True)
    want = sum(numpy_gate(w, branch, x.numpy(), {}, branch != "cw")[0] for branch in PLANES) / 3
    np.testing.assert_allclose(attention(x).detach(), x.numpy() * want, **CLOSE)
    assert attention.cw.conv.bn.running_mean.equal(torch.from_numpy(w["cw.conv.bn.running_mean"]))


def test_the_largest_takes_the_whole_gradient():
    """Of equal values one, not each a share."""
    attention = ww.TripletAttention(2).eval()
    x = torch.ones(1, 2, 1, 1, requires_grad=True)
    with torch.no_grad():
        for p in attention.parameters():
            p.zero_()
        attention.hw.conv.conv.weight[0, 0, 3, 3] = 1  # the largest at the place itself
        attention.hw.conv.bn.weight.fill_(1)
    attention.gates(x).full.sum().backward()
    assert (x.grad != 0).sum() == 1


def test_the_official_start():
    torch.manual_seed(0)
    attention = ww.TripletAttention(64, kernel_size=31)
    assert all(like_torch(branch.conv.conv) for branch in (attention.cw, attention.hc, attention.hw))
    assert all(branch.conv.bn.weight.eq(1).all() for branch in (attention.cw, attention.hc, attention.hw))
    assert sum(p.numel() for p in ww.TripletAttention(64).parameters()) == 300
    assert (attention.neutral, ww.TripletAttention(8, identity=True).neutral) == (0.5, 1.0)


@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("prefix", ["", "module.", "layer1.0.triplet_attention."])
def test_the_names_of_the_published_networks(prefix, spatial):
    trained = randomised(ww.TripletAttention(8, kernel_size=3, spatial=spatial))[0].float()
    names = {"cw": "ChannelGateH", "hc": "ChannelGateW", "hw": "SpatialGate"}
    state = {}
    for key, value in trained.state_dict().items():
        branch, _, rest = key.split(".", 2)
        state[f"{prefix}{names[branch]}.spatial.{rest}"] = value
    got = ww.TripletAttention(8, kernel_size=3, spatial=spatial).load_official(state)
    torch.testing.assert_close(got.state_dict(), trained.state_dict())


def test_a_checkpoint_of_a_whole_network(tmp_path):
    """It is found and loaded after the last normalisation of each block, where the official ResNet has it."""
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(0)
    plain = models.resnet18(num_classes=2)
    state, want, names = plain.state_dict(), {}, {"cw": "ChannelGateH", "hc": "ChannelGateW", "hw": "SpatialGate"}
    for block in (f"layer{stage}.{number}" for stage in range(1, 5) for number in range(2)):
        trained = ww.TripletAttention(1, kernel_size=3)
        want[f"{block}.bn2"] = {
            key: torch.randn(value.shape).to(value.dtype) for key, value in trained.state_dict().items()
        }
        for key, value in want[f"{block}.bn2"].items():
            branch, _, rest = key.split(".", 2)
            state[f"{block}.triplet_attention.{names[branch]}.spatial.{rest}"] = value
    torch.save(state, tmp_path / "checkpoint.pth")
    ww.insert(plain, "triplet", kernel_size=3, identity=False)
    ww.load(plain, tmp_path / "checkpoint.pth")
    got = {site: attention.state_dict() for site, attention in ww.attentions(plain).items()}
    assert got.keys() == want.keys()
    for site, tensors in want.items():
        for key, value in tensors.items():
            assert got[site][key].equal(value)


@pytest.mark.parametrize("options", [{}, {"kernel_size": 3, "spatial": False}], ids=str)
def test_options_that_shapes_tell(options):
    attention = ww.TripletAttention(8, **options)
    found = attention.options_from_shapes({k: tuple(v.shape) for k, v in attention.state_dict().items()})
    assert found == {"kernel_size": 7, "spatial": True, **options}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "kernel_size must be odd.*take 3 or 5"),
        ({"spatial": "no"}, "spatial must be True or False"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(WhatwhereError, match=message):
        ww.TripletAttention(8, **options)
